"""The composition of the front door: every object is built here, and opened and closed with the app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from api import problems
from api.body_limit import BodyLimit
from api.cards import Cards
from api.dispatcher import build_dispatcher
from api.document import DocumentedApp
from api.doorbell import Doorbell
from api.embedding_calls import EmbeddingCalls
from api.embedding_jobs import EmbeddingJobs
from api.event_streams import EventStreams
from api.feeder import Feeder
from api.forecasts import Forecasts
from api.inference import router as inference
from api.inference import short_router as inference_short
from api.inference.predictions import build_predictions
from api.inference.summaries import Summaries
from api.inputs import Inputs
from api.kserve import router as kserve
from api.kserve.job import Inference
from api.kserve.serving import Serving
from api.leadership import Leadership
from api.ledger import Ledger
from api.limits import build_limits
from api.measures import Measures
from api.model_house import build_model_house
from api.openai import router as openai
from api.openai import short_router as openai_short
from api.overview import Overview
from api.queue_figures import QueueFigures
from api.readiness import Check, Readiness
from api.reading import Reader
from api.reconciler import Reconciler
from api.removal import Removal
from api.request_events import RequestEvents
from api.routes import (
    artifacts,
    events,
    health,
    jobs,
    model_sources,
    model_versions,
    models,
    monitoring,
    pages,
    uploads,
    webhooks,
)
from api.runpod import router as runpod
from api.scene import Scenes
from api.services import Services
from api.submission import Submission
from api.sweeper import build_sweeper
from api.tenants import Tenants
from api.tickets import Tickets
from api.traffic import TrafficReader
from api.waiting import Waiters
from api.webhooks import build_webhooks
from fleet import migrate
from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.database import Database
from fleet.errors import DependencyError
from fleet.inference_summary import InferenceSummaryReader
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore
from fleet.outbox import Outbox
from fleet.outward import outward_of
from fleet.places import Places
from fleet.retention import Retention
from fleet.service_times import ServiceTimes
from fleet.settings import Settings
from fleet.traffic import TrafficBoard
from fleet.uploads import UploadStore

#: A caller who cannot be served now hears it within a second, and when to come back.
_WAIT_FOR_RECORD_S = 0.8
log = get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The app, closed; its lifespan opens it. Servers may be down at that time: `/readyz` tells."""
    services = _services(settings)
    app = DocumentedApp(
        title="Fleet",
        description="Runs ONNX models as durable jobs.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        # Ours are the spans and figures; the framework's own would be exported twice.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        middleware=[
            Middleware(RequestEvents, measures=services.measures),
            Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes),
        ],
    )
    app.state.services = services
    problems.install(app)
    # Routes are tried in this order, at 10 µs each: those that must be quickest first.
    app.include_router(openai.router)
    app.include_router(openai_short.router)
    app.include_router(inference_short.router)
    app.include_router(kserve.router)
    app.include_router(runpod.router)
    app.include_router(uploads.router)
    app.include_router(jobs.router)
    app.include_router(inference.router)
    app.include_router(events.router)
    app.include_router(artifacts.router)
    app.include_router(model_sources.router)
    app.include_router(model_sources.short_router)
    app.include_router(models.router)
    app.include_router(model_versions.router)
    app.include_router(webhooks.router)
    app.include_router(monitoring.router)
    app.include_router(health.router)
    pages.mount_static(app)
    app.include_router(pages.router)
    return app


def _services(settings: Settings) -> Services:
    dsn, redis_url = settings.database_dsn, settings.redis_url.get_secret_value()
    database = Database(dsn, max_connections=settings.postgres_pool_size, wait_s=_WAIT_FOR_RECORD_S)
    broker = Broker(redis_url)
    objects = ObjectStore(settings)
    measures = Measures()
    catalogue, uploads, outbox = Catalogue(database), UploadStore(database), Outbox(database)
    cards, places = Cards(catalogue), Places(database)
    job_store = JobStore(database, idempotency_ttl_s=settings.idempotency_ttl_s)
    waiters = Waiters(redis_url, job_store.standings, Reader(job_store.existing))
    inputs = Inputs(uploads, job_store, objects, outward_of(settings), upload_ttl_s=float(settings.upload_ttl_s))
    hooks = build_webhooks(settings, database, measures)
    service_times, board = ServiceTimes(database), TrafficBoard(database)
    traffic = TrafficReader(board)
    scenes = Scenes(cards, traffic, service_times, places)
    measures.also(QueueFigures(outbox, broker, catalogue, traffic))
    feeder = Feeder(outbox, broker, weights=settings.tenant_weights, did=measures.reconciled)
    reconciler = Reconciler(
        outbox=outbox,
        uploads=uploads,
        catalogue=catalogue,
        objects=objects,
        broker=broker,
        feeder=feeder,
        leadership=Leadership(dsn),
        measures=measures,
        every_s=settings.reconcile_every_s,
        patience_s=settings.lease_s / 2,
    )
    dispatcher = build_dispatcher(
        settings,
        database,
        feeder=feeder,
        cards=cards,
        service_times=service_times,
        board=board,
        measures=measures,
        leading=lambda: reconciler.leading,
    )
    removal = Removal(Retention(database), objects)
    submission = Submission(
        cards=cards,
        inputs=inputs,
        callbacks=hooks.callbacks,
        jobs=job_store,
        broker=broker,
        limits=build_limits(settings, database, traffic, cards),
        ledger=Ledger(traffic, settings.tenant_weights),
        traffic=traffic,
        service_times=service_times,
        measures=measures,
        held=dispatcher.ring,
        default_deadline_s=settings.default_deadline_s,
        default_retention_s=settings.job_retention_s,
    )
    house = build_model_house(
        settings,
        database,
        catalogue=catalogue,
        uploads=uploads,
        inputs=inputs,
        objects=objects,
        measures=measures,
    )
    tickets, serving = Tickets(settings, uploads, objects, inputs), Serving(database, catalogue, cards)
    inference = Inference(
        serving=serving,
        submission=submission,
        tickets=tickets,
        jobs=job_store,
        objects=objects,
        waiters=waiters,
        max_body_bytes=settings.max_body_bytes,
        max_wait_s=settings.max_wait_s,
    )
    embedding_jobs = EmbeddingJobs(
        submission=submission, tickets=tickets, jobs=job_store, objects=objects, waiters=waiters
    )
    return Services(
        settings=settings,
        database=database,
        broker=broker,
        doorbell=Doorbell(broker),
        objects=objects,
        catalogue=catalogue,
        jobs=job_store,
        tenants=Tenants(settings.tenant_keys),
        submission=submission,
        traffic=traffic,
        service_times=service_times,
        forecasts=Forecasts(scenes, places, settings.tenant_weights),
        overview=Overview(
            catalogue,
            places,
            board,
            scenes,
            broker,
            limit=settings.max_waiting_jobs,
            tenant_limit=settings.max_waiting_jobs_per_tenant,
        ),
        tickets=tickets,
        serving=serving,
        inference=inference,
        embedding_calls=EmbeddingCalls(embedding_jobs, cards, measures),
        predictions=build_predictions(
            database, objects, house, cards, jobs=job_store, submission=submission, waiters=waiters, measures=measures
        ),
        summaries=Summaries(InferenceSummaryReader(database)),
        models=house,
        waiters=waiters,
        event_streams=EventStreams(
            waiters,
            job_store,
            measures,
            at_most=settings.sse_max_streams,
            heartbeat_s=settings.sse_heartbeat_s,
        ),
        reconciler=reconciler,
        dispatcher=dispatcher,
        removal=removal,
        sweeper=build_sweeper(settings, removal, database, measures, leading=lambda: reconciler.leading),
        webhooks=hooks,
        readiness=Readiness(
            {
                "postgresql": Check(lambda: _check_record(dsn)),
                "objects": Check(objects.check),
                # Without it jobs are accepted all the same, and published when it is back.
                "redis": Check(broker.check, failing="warn"),
            }
        ),
        measures=measures,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.database.open()
    try:
        await run_in_threadpool(services.objects.ensure_bucket)
    except DependencyError as error:
        log.warning("the object store is not there yet", error=error.code)
    services.waiters.start()
    services.reconciler.start()
    services.dispatcher.start()
    services.sweeper.start()
    services.webhooks.sender.start()
    try:
        yield
    finally:
        await services.waiters.close()
        await run_in_threadpool(services.dispatcher.close)
        await run_in_threadpool(services.reconciler.close)
        await run_in_threadpool(services.sweeper.close)
        await run_in_threadpool(services.webhooks.sender.close)
        services.readiness.close()
        services.broker.close()
        services.database.close()


def _check_record(dsn: str) -> None:
    missing = migrate.pending(dsn)
    if missing:
        raise DependencyError(f"migrations {missing} are missing: run `fleet migrate`", code="database-not-migrated")
