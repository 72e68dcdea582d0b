"""The one visible place where a worker process is put together."""

import os
import socket
from dataclasses import dataclass

from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.objects import ObjectStore
from fleet.settings import Settings
from worker.claims import Claims
from worker.codecs import Codecs
from worker.device import Device
from worker.engine.arena import share_arena
from worker.engine.registry import Registry
from worker.engine.repository import ModelVersion, Repository
from worker.engine.session import SessionSetup
from worker.leases import LeaseKeeper
from worker.measures import Measures
from worker.media.limits import VolumeLimits
from worker.memory.share import Memory
from worker.names import worker_name
from worker.permits import Permits
from worker.pulse import Pulse
from worker.runner import Identity, Runner
from worker.scratch import Scratch
from worker.tasks import find_tasks


@dataclass(frozen=True)
class Process:
    """Everything that one worker process has; built when its device is proven."""

    settings: Settings
    name: str
    device: Device
    database: Database
    catalogue: Catalogue
    broker: Broker
    registry: Registry
    codecs: Codecs
    leases: LeaseKeeper
    measures: Measures
    runner: Runner
    scratch: Scratch
    permits: Permits
    pulse: Pulse
    memory: Memory

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def host(self) -> str:
        return socket.gethostname()

    def close(self) -> None:
        self.codecs.close()
        self.registry.clear()
        self.broker.close()
        self.database.close()
        self.scratch.close()
        self.pulse.end()


def assemble(settings: Settings, device: Device) -> Process:
    """Builds the process and opens its connections; nothing runs yet."""
    name = worker_name(settings, os.getpid())
    # One thread per running job, one for the leases, one for the announcer.
    database = Database(settings.database_dsn, max_connections=device.concurrency + 2).open()
    jobs = JobStore(database)
    broker = Broker(settings.redis_url.get_secret_value())
    repository = Repository(settings.models_path, find_tasks())
    measures = Measures()
    scratch = Scratch(settings.worker_scratch)
    memory = Memory.of_process(settings.worker_memory_bytes, scratch.folder, measures.memory_refused)
    measures.show_memory(memory.budget)
    share_arena()
    registry = Registry(repository, lambda version: session_setup(version, device), memory.budget)
    memory.budget.give_back = registry.shrink
    leases = LeaseKeeper(jobs, settings.lease_s, stop_patience_s=settings.worker_stop_patience_s)
    permits = Permits()
    codecs = Codecs(_volume_limits(settings), scratch.folder)
    runner = Runner(
        identity=Identity(name, device),
        jobs=jobs,
        objects=ObjectStore(settings),
        broker=broker,
        registry=registry,
        codecs=codecs,
        claims=Claims(jobs, leases, permits, measures, worker=name, lease_s=settings.lease_s),
        leases=leases,
        measures=measures,
        memory=memory,
        scratch=scratch.folder,
    )
    return Process(
        settings,
        name,
        device,
        database,
        Catalogue(database),
        broker,
        registry,
        codecs,
        leases,
        measures,
        runner,
        scratch,
        permits,
        Pulse(settings.worker_ready_file),
        memory,
    )


def session_setup(version: ModelVersion, device: Device) -> SessionSetup:
    """What the model's author asks for, within what works on this device."""
    options = version.manifest.onnx
    wanted = [name for name in options.providers if name in device.providers.using]
    providers = wanted or device.providers.using
    return SessionSetup(
        providers=providers,
        intra_op_threads=options.intra_op_threads or device.intra_op_threads,
        spin=device.concurrency == 1,
        graph_optimization=options.graph_optimization,
    )


def _volume_limits(settings: Settings) -> VolumeLimits:
    return VolumeLimits(
        max_voxels=settings.volume_max_voxels,
        max_bytes=settings.volume_max_bytes,
        max_files=settings.archive_max_files,
    )
