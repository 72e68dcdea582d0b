"""The parts that webhooks are made of, built once per app."""

from dataclasses import dataclass

from api.callbacks import Callbacks
from api.measures import Measures
from api.webhook_bodies import WebhookBodies
from api.webhook_figures import WebhookFigures
from api.webhook_sender import WebhookSender
from fleet.addresses import Reach
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.outward import Outward, trusting
from fleet.settings import Settings
from fleet.webhook_keys import WebhookKeys
from fleet.webhooks import WebhookStore


@dataclass(frozen=True)
class Webhooks:
    keys: WebhookKeys
    store: WebhookStore
    callbacks: Callbacks
    sender: WebhookSender


def build_webhooks(settings: Settings, database: Database, measures: Measures) -> Webhooks:
    """Raises ValidationFailed for secrets or certificates that cannot be used."""
    keys, store = settings.webhook_keys, WebhookStore(database)
    outward = Outward(
        Reach(settings.outward_allow_networks),
        allow_http=settings.webhook_allow_http,
        tls=trusting(settings.outward_ca_file),
    )
    measures.also(WebhookFigures(store))
    sender = WebhookSender(
        store=store,
        keys=keys,
        outward=outward,
        measures=measures,
        bodies=WebhookBodies(JobStore(database).get, settings.public_url),
        timeout_s=settings.webhook_timeout_s,
        retention_s=settings.webhook_retention_s,
    )
    return Webhooks(keys, store, Callbacks(outward, keys), sender)
