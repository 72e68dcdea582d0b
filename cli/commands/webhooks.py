"""`fleet webhooks`: what was sent to whom, once more, and the secret that receivers need."""

from itertools import islice
from typing import Annotated

import typer

from cli.connection import DataOption, UrlOption, connect
from cli.output import JsonOption, console, note, print_json
from fleet.webhook_values import DeliveryState

app = typer.Typer(
    help="See what receivers were told of your jobs, and tell them again.", no_args_is_help=True, add_completion=False
)

DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="The `webhook-id` that the receiver got.")]


@app.command("list")
def list_deliveries(
    *,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this job.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    data: DataOption = None,
) -> None:
    """List your webhooks, newest first."""
    with connect(url, data) as client:
        found = client.webhook_deliveries(job=job, state=state.value if state else None, page_size=min(limit, 100))
        deliveries = list(islice(found, limit))
    if as_json:
        print_json([delivery.model_dump(mode="json", exclude={"history"}) for delivery in deliveries])
    elif deliveries:
        from cli import webhook_tables

        console().print(webhook_tables.delivery_list(deliveries))
    else:
        note("no webhooks")


@app.command()
def show(delivery_id: DeliveryId, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """Show one webhook with every try."""
    with connect(url, data) as client:
        delivery = client.webhook_delivery(delivery_id)
    if as_json:
        print_json(delivery.model_dump(mode="json"))
    else:
        from cli import webhook_tables

        console().print(webhook_tables.delivery(delivery))


@app.command()
def replay(
    delivery_id: DeliveryId, as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None
) -> None:
    """Send a webhook once more, now, under the same id."""
    with connect(url, data) as client:
        delivery = client.replay_webhook(delivery_id)
    if as_json:
        print_json(delivery.model_dump(mode="json", exclude={"history"}))
    else:
        typer.echo(f"{delivery.id} {delivery.state}")


@app.command()
def secret(as_json: JsonOption = False, url: UrlOption = None, data: DataOption = None) -> None:
    """Print what your receivers verify signatures with, the newest first. Any of them will do."""
    with connect(url, data) as client:
        secrets = client.webhook_secrets()
    if as_json:
        print_json(secrets)
    else:
        for entry in secrets:
            typer.echo(entry)
