"""The `fleet` command: the table of its commands, and the one place where errors become exit codes."""

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from cli.exits import MEANINGS, Exit, report
from cli.lazy import group_class

COMMANDS = {
    "submit": "cli.commands.submit:submit",
    "embed": "cli.commands.embed:embed",
    "jobs": "cli.commands.jobs:app",
    "models": "cli.commands.models:app",
    "webhooks": "cli.commands.webhooks:app",
    "top": "cli.commands.top:top",
    "up": "cli.commands.up:up",
    "status": "cli.commands.status:status",
    "down": "cli.commands.down:down",
    "demo": "cli.commands.demo:demo",
    "serve": "cli.commands.serve:serve",
    "work": "cli.commands.work:work",
    "migrate": "cli.commands.migrate:migrate",
    "version": "cli.commands.version:version",
}

_EXIT_CODES = "\n\n".join(
    ["Exit codes", *(f"{exit_code.value:>3}  {meaning}" for exit_code, meaning in MEANINGS.items())]
)

app = typer.Typer(
    name="fleet",
    cls=group_class(COMMANDS),
    help="Run ONNX models as durable jobs: submit work, follow it, and run the servers behind it.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _fleet() -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Errors that are not ours are bugs, and raised."""
    try:
        code = get_command(app).main(list(arguments), prog_name="fleet", standalone_mode=False)
    except TyperException as error:
        # Usage errors know their context: they show the usage line and how to ask for help.
        show = getattr(error, "show", None)
        if show is not None:
            show()
        return error.exit_code
    except typer.Abort:
        return Exit.INTERRUPTED
    except Exception as error:
        exit_code = report(error)
        if exit_code is None:
            raise
        return exit_code
    return code if isinstance(code, int) else Exit.OK


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
