"""Everything that a request may need, built once per app in `create_app` and handed to the routes."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.dispatcher import Dispatcher
from api.doorbell import Doorbell
from api.embedding_calls import EmbeddingCalls
from api.event_streams import EventStreams
from api.forecasts import Forecasts
from api.inference.predictions import Predictions
from api.inference.summaries import Summaries
from api.kserve.job import Inference
from api.kserve.serving import Serving
from api.measures import Measures
from api.model_house import ModelHouse
from api.overview import Overview
from api.readiness import Readiness
from api.reconciler import Reconciler
from api.removal import Removal
from api.submission import Submission
from api.sweeper import Sweeper
from api.tenants import Tenants
from api.tickets import Tickets
from api.traffic import TrafficReader
from api.waiting import Waiters
from api.webhooks import Webhooks
from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.service_times import ServiceTimes
from fleet.settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    broker: Broker
    doorbell: Doorbell
    objects: ObjectStore
    catalogue: Catalogue
    jobs: JobStore
    tenants: Tenants
    submission: Submission
    traffic: TrafficReader
    service_times: ServiceTimes
    forecasts: Forecasts
    overview: Overview
    tickets: Tickets
    models: ModelHouse
    serving: Serving
    inference: Inference
    embedding_calls: EmbeddingCalls
    predictions: Predictions
    summaries: Summaries
    waiters: Waiters
    event_streams: EventStreams
    reconciler: Reconciler
    dispatcher: Dispatcher
    removal: Removal
    sweeper: Sweeper
    webhooks: Webhooks
    readiness: Readiness
    measures: Measures


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _tenant(request: Request) -> str:
    return cast(str, request.state.tenant)


async def _base_url(request: Request) -> str:
    """How the caller reaches this server, without a slash at the end."""
    services = cast(Services, request.app.state.services)
    return (services.settings.public_url or str(request.base_url)).rstrip("/")


Core = Annotated[Services, Depends(_services)]
#: Of the caller, as `api/guarded.py` found it.
Tenant = Annotated[str, Depends(_tenant)]
BaseUrl = Annotated[str, Depends(_base_url)]
