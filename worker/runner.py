"""One job's way through a worker: claim, fetch, decode, run, encode, store, finish.

Whatever happens, a run leaves either a committed result or nothing: a loser's objects are removed, its scratch
folder is gone, and the record says how it ended.
"""

import base64
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from fleet.broker import Broker
from fleet.contracts import Artifact, Job, JobInput, JobState, RanOn, Stage
from fleet.errors import DependencyError, FleetError, NoCapableWorker, NotFound, RunStopped, ValidationFailed
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore, result_key
from fleet.queues import QueueKind
from fleet.settings import STORE_PATIENCE_S
from worker.claims import Claims
from worker.codecs import Codecs
from worker.contract import Encoded, Source, TaskParams
from worker.device import Device
from worker.engine.loaded import LoadedModel
from worker.engine.manifest import faults
from worker.engine.registry import Registry
from worker.forgiveness import goes_back
from worker.helping import Helping
from worker.leases import Held, LeaseKeeper
from worker.lessons import Lessons
from worker.measures import Measures
from worker.memory.share import Memory
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

log = get_logger(__name__)
T = TypeVar("T")
#: How long a job waits for a worker that holds its model, after one that does not took it.
_OTHER_WORKER_S = 5.0
_FETCH_PATIENCE_S = 10.0
#: Less than a draining worker is given for it.
_DRAIN_PATIENCE_S = 8.0
_NOTHING = Ending({}, None)


@dataclass(frozen=True)
class Identity:
    """Who runs: the worker's name and its device, for the record."""

    name: str
    device: Device


@dataclass
class Run:
    """One attempt under way."""

    job: Job
    stop: StopToken
    progress: JobProgress
    #: Why here.
    why: str
    loaded: LoadedModel | None = None


class Runner:
    """Thread-safe: every thread of the pool calls `run` with the ids that its messages carry."""

    def __init__(
        self,
        *,
        identity: Identity,
        jobs: JobStore,
        objects: ObjectStore,
        broker: Broker,
        registry: Registry,
        codecs: Codecs,
        claims: Claims,
        leases: LeaseKeeper,
        helping: Helping,
        lessons: Lessons,
        measures: Measures,
        memory: Memory,
        scratch: Path | None,
    ) -> None:
        self._identity = identity
        self._jobs = jobs
        self._objects = objects
        self._broker = broker
        self._registry = registry
        self._codecs = codecs
        self._claims = claims
        self._leases = leases
        self._helping = helping
        self._lessons = lessons
        self._measures = measures
        self._memory = memory
        self._scratch = scratch

    def run(self, job_id: UUID, seq: int, kind: QueueKind | None = None) -> None:
        """Runs the job unless the claim is refused; `seq` is that of the message, `kind` that of the queue it lay in.

        Never raises for what is wrong with a job. Raises what nobody foresaw before a claim was won.
        """
        with self._claims.taken(job_id, seq, kind) as held:
            if held is None:
                return
            job = held.job
            with structlog.contextvars.bound_contextvars(job_id=str(job.id), model=f"{job.model}/{job.version}"):
                self._attempt(held)

    def _attempt(self, held: Held) -> None:
        run = Run(held.job, held.stop, held.progress, self._helping.why(held.job, self._identity.device.pool))
        share = run.progress.share = self._memory.share(held.extend)
        ended: Job | None = None
        try:
            with tempfile.TemporaryDirectory(
                prefix="fleet-job-", dir=self._scratch, ignore_cleanup_errors=True
            ) as scratch:
                ended = self._walk(run, Path(scratch))
        except FleetError as error:
            ended = self._give_up(run, error)
        except MemoryError:
            ended = self._give_up(run, FleetError("the worker ran out of memory for this job", code="out-of-memory"))
        except OSError as error:
            log.exception("the worker's disk failed", attempt=run.job.attempt)
            ended = self._give_up(
                run, DependencyError(f"the worker's disk failed: {error.strerror}", code="worker-disk")
            )
        except Exception as error:
            log.exception("run failed unexpectedly", attempt=run.job.attempt)
            ended = self._give_up(run, FleetError(f"unexpected {type(error).__name__} in the worker"))
        finally:
            share.release()
            self._leases.release(held)
        self._conclude(run, ended)

    def _walk(self, run: Run, scratch: Path) -> Job | None:
        """The straight path; the job as it was committed, or None when the token had become stale."""
        job, progress = run.job, run.progress
        with progress.stage(Stage.LOAD):
            loaded = run.loaded = self._load(job, progress)
        task = loaded.version.task
        params = parsed_params(loaded, job)
        with progress.stage(Stage.FETCH):
            if stored := sum(item.object.size for item in job.inputs if item.object is not None):
                progress.admit(f"an input of {stored:,} bytes", 0, scratch_bytes=stored)
            fetched = [self._fetch(run, scratch / f"input-{n}", item) for n, item in enumerate(job.inputs)]
        with progress.stage(Stage.DECODE):
            media = self._codecs.decode(task.accepts, [source for source, _ in fetched], params, progress)
        outcome = task.run(media, params, loaded.for_run(run.stop), progress)
        del media
        with progress.stage(Stage.ENCODE):
            encoded = self._codecs.encode(task.returns, outcome, scratch)
        del outcome
        with progress.stage(Stage.STORE):
            artifacts = self._store(run, encoded)
        inputs = [item for _, item in fetched]
        # From here on a stop comes too late: the work is done, and the token decides whether it counts.
        return self._patiently(
            lambda: self._jobs.finish(
                job, result=encoded.result, artifacts=artifacts, inputs=inputs, ending=self._ending(run)
            )
        )

    def _load(self, job: Job, progress: JobProgress) -> LoadedModel:
        try:
            return self._registry.load(job.model, job.version, progress)
        except NotFound as error:
            raise NoCapableWorker(error.message) from error

    def _fetch(self, run: Run, path: Path, item: JobInput) -> tuple[Source, JobInput]:
        """The input on local disk, and its description with the digest that was read."""
        if item.inline is not None:
            path.write_bytes(base64.b64decode(item.inline.data))
            return Source(path, item.inline.name or "", item.inline.media_type), item
        assert item.object is not None  # noqa: S101 (an input is one or the other)
        reference = item.object
        try:
            checked = self._patiently(
                lambda: self._objects.fetch(reference, path, lambda _: run.stop.check()), run.stop, _FETCH_PATIENCE_S
            )
        except DependencyError as error:
            if not error.retryable:
                raise
            # Nothing is done yet that waiting could save, and others may not need the object store.
            raise NoCapableWorker(f"its input cannot be read now: {error.message}", code="input-unavailable") from error
        return Source(path, reference.name or "", reference.media_type), JobInput(object=checked)

    def _store(self, run: Run, encoded: Encoded) -> list[Artifact]:
        artifacts = []
        for file in encoded.files:
            key = result_key(run.job.id, run.job.attempt, file.name)
            put = partial(self._objects.put_file, key, file.path, media_type=file.media_type, name=file.name)
            artifacts.append(Artifact(name=file.name, object=self._patiently(put, run.stop)))
        return artifacts

    @staticmethod
    def _patiently(call: Callable[[], T], stop: StopToken | None = None, within_s: float = STORE_PATIENCE_S) -> T:
        """Repeats a call while a dependency is away: minutes of work are not thrown away for seconds of outage."""
        give_up_at, pause = time.monotonic() + within_s, 0.5
        while True:
            try:
                return call()
            except DependencyError as error:
                final = not error.retryable or error.code == "database-closed"
                if final or time.monotonic() + pause > give_up_at:
                    raise
                log.warning("waiting for a dependency", code=error.code, pause_s=pause)
            if stop is None:
                time.sleep(pause)
            else:
                stop.wait(pause)
                stop.check()
            pause = min(pause * 2, 10.0)

    def _ending(self, run: Run) -> Ending:
        device = self._identity.device
        loaded = run.loaded
        ran_on = RanOn(
            worker=self._identity.name,
            pool=device.pool,
            device=device.name,
            provider=loaded.session.provider if loaded else device.providers.best,
            simulated=device.simulated,
            why=run.why,
            model_sha256=loaded.version.sha256 if loaded else None,
        )
        return Ending(run.progress.timings, ran_on)

    def _give_up(self, run: Run, error: FleetError) -> Job | None:
        """Writes how the attempt ended; the job as it is then, or None for a stale token."""
        try:
            within_s = _DRAIN_PATIENCE_S if run.stop.reason is StopReason.DRAINED else STORE_PATIENCE_S
            return self._patiently(lambda: self._record_end(run, error), within_s=within_s)
        except DependencyError as outage:
            # The lease lapses and the reconciler takes over.
            log.error("the end of a run could not be recorded", code=outage.code, ending=error.code)
            return None
        except Exception:
            log.exception("the end of a run could not be recorded", ending=error.code)
            return self._jobs.fail(run.job, FleetError("the reason could not be recorded", code=error.code), _NOTHING)

    def _record_end(self, run: Run, error: FleetError) -> Job | None:
        job = run.job
        if goes_back(job, error):
            # Another worker may hold the model, as in a rolling deployment; this one is not to judge.
            log.warning("job handed back", reason=error.message)
            return self._jobs.hand_back(job, error.code, _OTHER_WORKER_S * 2 ** min(job.forgiven, 4))
        if not isinstance(error, RunStopped):
            log.warning("run failed", code=error.code, reason=error.message, attempt=job.attempt)
            return self._jobs.fail(job, error, self._ending(run))
        log.info("run stopped", reason=error.code, attempt=job.attempt)
        match StopReason(error.code):
            case StopReason.CANCELLED:
                return self._jobs.stop(job, JobState.CANCELLED, None, self._ending(run))
            case StopReason.DEADLINE | StopReason.EXECUTION_TIMEOUT:
                return self._jobs.stop(job, JobState.EXPIRED, error, self._ending(run))
            case StopReason.DRAINED:
                return self._jobs.hand_back(job, error.code)
            case StopReason.LEASE_LOST:
                return None

    def _conclude(self, run: Run, ended: Job | None) -> None:
        """After the record: tidy up what did not win, and wake those who wait."""
        try:
            if ended is None:
                # Nothing was written now, but an earlier commit may have lost only its answer.
                ended = self._jobs.won(run.job)
            succeeded = ended is not None and ended.state is JobState.SUCCEEDED
            if not succeeded and Stage.STORE.value in run.progress.timings:
                self._objects.remove_prefix(result_key(run.job.id, run.job.attempt, ""))
            if ended is not None and ended.state.ended:
                self._broker.tell_ended(ended.id, ended.state)
        except DependencyError as error:
            log.warning("after the end of a run", code=error.code)
        state = ended.state if ended else None
        self._measures.run_ended(run.job, state, run.progress.timings)
        if state is JobState.SUCCEEDED:
            self._lessons.note(run.job, run.progress.timings, run.progress.between_stages_s)
            seconds = {f"{stage}_s": seconds for stage, seconds in run.progress.timings.items()}
            log.info("job succeeded", attempt=run.job.attempt, **seconds)


def parsed_params(loaded: LoadedModel, job: Job) -> TaskParams:
    """The request's parameters as the task knows them. Raises ValidationFailed."""
    try:
        return loaded.version.task.Params.model_validate(job.params)
    except ValidationError as error:
        raise ValidationFailed(f"params: {faults(error)}") from error
