"""The one visible place where a worker process is put together."""

import os
import socket
from dataclasses import dataclass

from fleet.broker import Broker
from fleet.catalogue import Catalogue
from fleet.contracts import Pool
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.kept_inputs import KeptInputs
from fleet.logs import get_logger
from fleet.objects import ObjectStore
from fleet.outward import outward_of
from fleet.parts import PartStore
from fleet.service_times import ServiceTimes
from fleet.settings import Settings
from fleet.traffic import TrafficBoard
from fleet.usage import UsageBoard
from worker.claims import Claims
from worker.codecs import Codecs
from worker.device import Device
from worker.engine.arena import share_arena
from worker.engine.loading import ready
from worker.engine.providers import prove_providers
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.room_choice import model_room
from worker.engine.setup import Setups
from worker.exits import ExitCode, end_process
from worker.helping import Helping
from worker.house.keeper import Keeper
from worker.house.opened import House, open_house
from worker.inputs import Inputs
from worker.leases import LeaseKeeper
from worker.lessons import Lessons
from worker.links import Links
from worker.measures import Measures
from worker.media.limits import VolumeLimits
from worker.media.picture_limits import PictureLimits
from worker.memory.share import Memory
from worker.names import worker_name
from worker.permits import Permits
from worker.pulse import Pulse
from worker.runner import Identity, Runner
from worker.scratch import Scratch
from worker.stop import StopReason
from worker.tasks import find_tasks
from worker.usage import Usage

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
    usage: Usage
    measures: Measures
    runner: Runner
    scratch: Scratch
    permits: Permits
    pulse: Pulse
    memory: Memory
    house: House
    keeper: Keeper

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
        self.usage.tell()
        self.codecs.close()
        self.registry.clear()
        self.house.disk.close()
        self.broker.close()
        self.database.close()
        self.scratch.close()
        self.pulse.end()


def assemble(settings: Settings, device: Device) -> Process:
    """Builds the process and opens its connections; nothing runs yet."""
    name = worker_name(settings, os.getpid())
    # One thread per running job, one for the leases, one for the announcer, one that looks whether to help out,
    # one that tells what was run, and four of the model house: its importer with the lease, its keeper, which loads.
    database = Database(settings.database_dsn, max_connections=device.concurrency + 8).open()
    jobs = JobStore(database)
    broker = Broker(settings.redis_url.get_secret_value())
    tasks, objects, measures = find_tasks(settings), ObjectStore(settings), Measures()
    house = open_house(settings, database, objects, tasks, measures)
    repository = Repository(settings.models_path, tasks, house.shelf, house.weights)
    usage = Usage(UsageBoard(database), measures)
    scratch = Scratch(settings.worker_scratch)
    memory = Memory.of_process(settings.worker_memory_bytes, scratch.folder, measures.memory_refused)
    measures.show_memory(memory.budget)
    share_arena()
    setups = Setups(device, settings.onnx_providers, settings.model_cache / "engines")
    room = model_room(settings, device, memory.budget.usable_bytes)
    registry = Registry(
        repository, setups, memory.budget, speed=device.speed, watch=usage, room=room, seen=measures, after_load=ready
    )
    measures.show_models(registry)
    memory.budget.give_back = registry.shrink
    memory.budget.may_go, memory.budget.let_go = registry.idle_bytes, registry.let_go
    leases = LeaseKeeper(jobs, settings.lease_s, stop_patience_s=settings.worker_stop_patience_s)
    helping = Helping(
        TrafficBoard(database),
        worker=name,
        lanes=settings.worker_lanes,
        willing=settings.worker_overflow and device.pool is Pool.CPU,
    )
    lessons = Lessons(ServiceTimes(database), device.kind)
    permits = Permits()
    codecs = Codecs(_volume_limits(settings), scratch.folder, _picture_limits(settings))
    runner = Runner(
        identity=Identity(name, device),
        jobs=jobs,
        objects=objects,
        parts=PartStore(database, objects),
        broker=broker,
        registry=registry,
        codecs=codecs,
        inputs=Inputs(objects, KeptInputs(database), Links(outward_of(settings), settings.image_max_size)),
        claims=Claims(jobs, leases, permits, measures, worker=name, lease_s=settings.lease_s),
        leases=leases,
        helping=helping,
        lessons=lessons,
        usage=usage,
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
        usage,
        measures,
        runner,
        scratch,
        permits,
        Pulse(settings.worker_ready_file),
        memory,
        house,
        Keeper(house.records, house.shelf, house.disk, registry, memory=memory, lanes=settings.worker_lanes),
    )


def _picture_limits(settings: Settings) -> PictureLimits:
    return PictureLimits(
        max_bytes=settings.image_max_size,
        max_pixels=settings.image_max_pixels,
        max_aspect=settings.image_max_aspect,
        max_tiled_pixels=settings.image_max_tiled_pixels,
        max_files=settings.archive_max_files,
    )


def _volume_limits(settings: Settings) -> VolumeLimits:
    return VolumeLimits(
        max_voxels=settings.volume_max_voxels,
        max_bytes=settings.volume_max_bytes,
        max_files=settings.archive_max_files,
    )
