"""`fleet migrate`: brings the database to this version's schema."""

from typing import Annotated

import typer

from cli.exits import Exit
from cli.output import JsonOption, print_json


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 when something is pending.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the database to this version's schema. DATABASE_URL or POSTGRES_* say where it is."""
    from fleet import migrate as schema
    from fleet.settings import Settings

    dsn = Settings().database_dsn
    numbers = schema.pending(dsn) if check else schema.migrate(dsn)
    word = "pending" if check else "applied"
    if as_json:
        print_json({word: numbers})
    else:
        typer.echo(f"{word}: {', '.join(map(str, numbers))}" if numbers else "the schema is up to date")
    if check and numbers:
        raise typer.Exit(Exit.FAILED)
