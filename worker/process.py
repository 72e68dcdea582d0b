"""The one visible place where a worker process is put together."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.contracts import DevicePolicy, Pool
from fleet.database import Database
from fleet.errors import NoCapableWorker
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore
from fleet.service_times import ServiceTimes
from fleet.settings import GPU_PROVIDERS, Settings
from fleet.traffic import TrafficBoard
from worker.claims import Claims
from worker.codecs import Codecs
from worker.device import Device
from worker.engine.arena import share_arena
from worker.engine.model_folder import ModelVersion
from worker.engine.providers import prove_providers
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import SessionSetup
from worker.exits import ExitCode, end_process
from worker.helping import Helping
from worker.leases import LeaseKeeper
from worker.lessons import Lessons
from worker.measures import Measures
from worker.media.limits import VolumeLimits
from worker.memory.share import Memory
from worker.names import worker_name
from worker.permits import Permits
from worker.pulse import Pulse
from worker.runner import Identity, Runner
from worker.scratch import Scratch
from worker.stop import StopReason
from worker.tasks import find_tasks

#: What the other runs get to notice it.
_LOST_S = 5.0
log = get_logger(__name__)


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
    helping: Helping
    lessons: Lessons
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

    def end_if_device_is_lost(self) -> None:
        """A new process proves the device again; until then nothing here can run on it."""
        lost = self.registry.device_lost or (
            # One model may not fit on it; but a worker whose GPU is gone would hand back all that waits.
            self.registry.fell_back() and not prove_providers(self.device.providers.using).is_gpu
        )
        if not lost:
            return
        log.critical("the GPU has failed: ending the process", device=self.device.name)
        self.leases.drain()
        # Whatever else runs here fails in the same way, and goes back by itself.
        if not self.leases.wait_idle(_LOST_S):
            self.leases.hand_back_all(StopReason.DRAINED)
        end_process(ExitCode.GPU_LOST)

    def close(self) -> None:
        self.lessons.tell()
        self.codecs.close()
        self.registry.clear()
        self.broker.close()
        self.database.close()
        self.scratch.close()
        self.pulse.end()


def assemble(settings: Settings, device: Device) -> Process:
    """Builds the process and opens its connections; nothing runs yet."""
    name = worker_name(settings, os.getpid())
    # One thread per running job, one for the leases, one for the announcer, one that looks whether to help out.
    database = Database(settings.database_dsn, max_connections=device.concurrency + 3).open()
    jobs = JobStore(database)
    broker = Broker(settings.redis_url.get_secret_value())
    repository = Repository(settings.models_path, find_tasks())
    measures = Measures()
    scratch = Scratch(settings.worker_scratch)
    memory = Memory.of_process(settings.worker_memory_bytes, scratch.folder, measures.memory_refused)
    measures.show_memory(memory.budget)
    share_arena()
    registry = Registry(repository, lambda version: session_setup(version, device), memory.budget, speed=device.speed)
    memory.budget.give_back = registry.shrink
    leases = LeaseKeeper(jobs, settings.lease_s, stop_patience_s=settings.worker_stop_patience_s)
    helping = Helping(
        TrafficBoard(database),
        worker=name,
        lanes=settings.worker_lanes,
        willing=settings.worker_overflow and device.pool is Pool.CPU,
    )
    lessons = Lessons(ServiceTimes(database), device.kind)
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
        helping=helping,
        lessons=lessons,
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
        helping,
        lessons,
        measures,
        runner,
        scratch,
        permits,
        Pulse(settings.worker_ready_file),
        memory,
    )


def session_setup(version: ModelVersion, device: Device) -> SessionSetup:
    """What the model's author asks for, within what works on this device.

    Raises NoCapableWorker `wrong-device` for a model that runs on the other kind only: its job came here by mistake.
    """
    only = {DevicePolicy.GPU_ONLY: Pool.GPU, DevicePolicy.CPU_ONLY: Pool.CPU}.get(version.manifest.device, device.pool)
    if only is not device.pool:
        message = f"{version.key} runs on a {only.name} only, and the device of this worker is {device.name}"
        raise NoCapableWorker(message, code="wrong-device")
    options = version.manifest.onnx
    providers = session_providers(options.providers, device.providers.using)
    return SessionSetup(
        providers=providers,
        intra_op_threads=options.intra_op_threads or device.intra_op_threads,
        spin=device.concurrency == 1,
        graph_optimization=options.graph_optimization,
    )


def session_providers(asked: Sequence[str], working: Sequence[str]) -> Sequence[str]:
    """Those of `asked` that work, in that order; the device's own where none does.

    A model that asks for some GPU provider, with the CPU's behind it, is not served by the CPU alone on a GPU.
    """
    wanted = [name for name in asked if name in working]
    meant_a_gpu = bool(asked) and asked[0] in GPU_PROVIDERS
    if not wanted or (meant_a_gpu and working[0] in GPU_PROVIDERS and wanted[0] not in GPU_PROVIDERS):
        return working
    return wanted


def _volume_limits(settings: Settings) -> VolumeLimits:
    return VolumeLimits(
        max_voxels=settings.volume_max_voxels,
        max_bytes=settings.volume_max_bytes,
        max_files=settings.archive_max_files,
    )
