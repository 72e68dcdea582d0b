"""One job's way through a worker: claim, fetch, decode, run, encode, store, finish.

Whatever happens, a run leaves either a committed result or nothing: a loser's objects are removed, its scratch
folder is gone, and the record says how it ended.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog

from fleet.broker import Broker
from fleet.contracts import Artifact, Job, JobState, RanOn, Stage
from fleet.errors import DependencyError, FleetError, NoCapableWorker, NotFound, RunStopped
from fleet.job_news import news_of
from fleet.job_values import Ending
from fleet.jobs import JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore, result_key
from fleet.parts import PartStore
from fleet.queues import QueueKind
from fleet.settings import STORE_PATIENCE_S
from worker.asked import asked
from worker.claims import Claims
from worker.codecs import Codecs
from worker.contract import Encoded
from worker.device import Device
from worker.engine.loaded import LoadedModel, RunnableModel
from worker.engine.registry import Registry
from worker.forgiveness import goes_back
from worker.helping import Helping
from worker.inputs import Inputs
from worker.leases import Held, LeaseKeeper
from worker.lessons import Lessons
from worker.measures import Measures
from worker.memory.share import Memory
from worker.parts import JobParts
from worker.patience import patiently
from worker.progress import JobProgress
from worker.scratch import job_folder
from worker.stop import StopReason, StopToken
from worker.usage import Usage

log = get_logger(__name__)
#: How long a job waits for a worker that holds its model, after one that does not took it.
_OTHER_WORKER_S = 5.0
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
    #: Whether it was loaded already when this run asked for it.
    cached: bool | None = None
    model: RunnableModel | None = None
    #: Whether those who wait for its end have been told.
    told: bool = False


class Runner:
    """Thread-safe: every thread of the pool calls `run` with the ids that its messages carry."""

    def __init__(
        self,
        *,
        identity: Identity,
        jobs: JobStore,
        objects: ObjectStore,
        parts: PartStore,
        broker: Broker,
        registry: Registry,
        codecs: Codecs,
        inputs: Inputs,
        claims: Claims,
        leases: LeaseKeeper,
        helping: Helping,
        lessons: Lessons,
        usage: Usage,
        measures: Measures,
        memory: Memory,
        scratch: Path,
    ) -> None:
        self._identity = identity
        self._jobs = jobs
        self._objects = objects
        self._parts = parts
        self._broker = broker
        self._registry = registry
        self._codecs = codecs
        self._inputs = inputs
        self._claims = claims
        self._leases = leases
        self._helping = helping
        self._lessons = lessons
        self._usage = usage
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
            with job_folder(self._scratch, run.job) as scratch, ExitStack() as leases:
                ended = self._walk(run, scratch, leases)
                self._tell(run, ended)
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

    def _walk(self, run: Run, scratch: Path, leases: ExitStack) -> Job | None:
        """The straight path; the job as it was committed, or None when the token had become stale."""
        job, progress = run.job, run.progress
        with progress.stage(Stage.LOAD):
            run.cached = self._registry.serving(f"{job.model}/{job.version}") is not None
            loaded = run.loaded = self._leased(job, progress, leases)
        task, params = asked(job, loaded.version.task)
        with progress.stage(Stage.FETCH):
            ready = self._inputs.fetched(job, scratch, task.accepts, progress, run.stop)
        inputs = [item for _, item in ready]
        progress.folder = scratch
        progress.keeping = partial(JobParts, self._parts, job, inputs, loaded, run.stop)
        with progress.stage(Stage.DECODE):
            media = self._codecs.decode(task.accepts, [source for source, _ in ready], params, progress)
        run.model = loaded.for_run(run.stop, job.priority)
        outcome = task.run(media, params, run.model, progress)
        del media
        with progress.stage(Stage.ENCODE):
            encoded = self._codecs.encode(task.returns, outcome, scratch)
        del outcome
        with progress.stage(Stage.STORE):
            artifacts = self._store(run, encoded)
        # From here on a stop comes too late: the work is done, and the token decides whether it counts.
        return patiently(
            lambda: self._jobs.finish(
                job, result=encoded.result, artifacts=artifacts, inputs=inputs, ending=self._ending(run)
            )
        )

    def _leased(self, job: Job, progress: JobProgress, leases: ExitStack) -> LoadedModel:
        try:
            loaded = leases.enter_context(self._registry.leased(job.model, job.version, progress))
        except NotFound as error:
            raise NoCapableWorker(error.message) from error
        if progress.share is not None:
            progress.share.keep(partial(self._registry.idle_bytes, loaded))
        return loaded

    def _store(self, run: Run, encoded: Encoded) -> list[Artifact]:
        artifacts = []
        for file in encoded.files:
            key = result_key(run.job.id, run.job.attempt, file.name)
            put = partial(self._objects.put_file, key, file.path, media_type=file.media_type, name=file.name)
            artifacts.append(Artifact(name=file.name, object=patiently(put, run.stop)))
        return artifacts

    def _ending(self, run: Run) -> Ending:
        device = self._identity.device
        loaded = run.loaded
        ran_on = RanOn(
            worker=self._identity.name,
            pool=device.pool,
            device=device.name,
            provider=loaded.session.provider if loaded else device.providers.best,
            simulated=device.simulated,
            batch_size=run.model.batch_size if run.model else 1,
            cached=run.cached,
            why=run.why,
            fallback=loaded.fallback if loaded else "",
            model_sha256=loaded.version.sha256 if loaded else None,
        )
        return Ending(run.progress.timings, ran_on)

    def _give_up(self, run: Run, error: FleetError) -> Job | None:
        """Writes how the attempt ended; the job as it is then, or None for a stale token."""
        try:
            within_s = _DRAIN_PATIENCE_S if run.stop.reason is StopReason.DRAINED else STORE_PATIENCE_S
            return patiently(lambda: self._record_end(run, error), within_s=within_s)
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

    def _tell(self, run: Run, ended: Job | None) -> None:
        """Wakes those who wait, once."""
        if ended is None or not ended.state.ended or run.told:
            return
        run.told = True
        try:
            self._broker.tell_ended(ended.id, ended.state, news_of(ended))
        except DependencyError as error:
            log.warning("the end of a run was not told", code=error.code)

    def _conclude(self, run: Run, ended: Job | None) -> None:
        """After the record: tidy up what did not win."""
        timings = run.progress.timings
        try:
            if ended is None:
                # Nothing was written now, but an earlier commit may have lost only its answer.
                ended = self._jobs.won(run.job)
            succeeded = ended is not None and ended.state is JobState.SUCCEEDED
            if not succeeded and Stage.STORE.value in timings:
                self._objects.remove_prefix(result_key(run.job.id, run.job.attempt, ""))
            self._tell(run, ended)
        except DependencyError as error:
            log.warning("after the end of a run", code=error.code)
        state = ended.state if ended else None
        self._measures.run_ended(run.job, state, timings)
        self._usage.ended(run.job, state, timings)
        if state is JobState.SUCCEEDED:
            # What went on where another attempt was says nothing of a whole run.
            if not run.progress.resumed:
                self._lessons.note(run.job, timings, run.progress.between_stages_s)
            seconds = {f"{stage}_s": spent for stage, spent in timings.items()}
            log.info("job succeeded", attempt=run.job.attempt, **seconds)
