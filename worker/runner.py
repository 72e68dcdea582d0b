"""One job's way through a worker: claim, fetch, decode, run, encode, store, finish.

Whatever happens, a run leaves either a committed result or nothing: a loser's objects are removed, its scratch
folder is gone, and the record says how it ended.
"""

import base64
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from fleet.broker import Broker
from fleet.contracts import Artifact, Job, JobInput, JobState, RanOn, Stage
from fleet.errors import DependencyError, FleetError, IntegrityError, RunStopped, ValidationFailed
from fleet.jobs import Claim, Ending, JobStore
from fleet.logs import get_logger
from fleet.objects import ObjectStore, result_key
from worker.codecs import Codecs
from worker.contract import Encoded, Source
from worker.device import Device
from worker.engine.manifest import faults
from worker.engine.registry import LoadedModel, Registry
from worker.leases import Held, LeaseKeeper
from worker.measures import Measures
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

log = get_logger(__name__)
T = TypeVar("T")
#: How long a run waits for the record or the object store to come back before it gives up its work.
_PATIENCE_S = 120.0


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
    scratch: Path
    loaded: LoadedModel | None = None

    @property
    def prefix(self) -> str:
        return result_key(self.job.id, self.job.attempt, "")


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
        leases: LeaseKeeper,
        measures: Measures,
        lease_s: float,
        scratch: Path | None,
    ) -> None:
        self._identity = identity
        self._jobs = jobs
        self._objects = objects
        self._broker = broker
        self._registry = registry
        self._codecs = codecs
        self._leases = leases
        self._measures = measures
        self._lease_s = lease_s
        self._scratch = scratch

    def run(self, job_id: UUID) -> None:
        """Runs the job unless the claim is refused. Never raises for what is wrong with a job."""
        claim = self._jobs.claim(job_id, self._identity.name, self._lease_s)
        if claim is None:
            self._measures.claim_refused()
            log.debug("claim refused", job_id=str(job_id))
            return
        job = claim.job
        with structlog.contextvars.bound_contextvars(job_id=str(job.id), model=f"{job.model}/{job.version}"):
            self._attempt(claim)

    def _attempt(self, claim: Claim) -> None:
        job, stop = claim.job, StopToken()
        progress = JobProgress(stop)
        progress.note(Stage.QUEUE, claim.waited_s)
        ends_at = time.monotonic() + job.execution_timeout_s
        self._leases.hold(Held(job, stop, progress, ends_at))
        scratch = Path(tempfile.mkdtemp(prefix="fleet-job-", dir=self._scratch))
        run = Run(job, stop, progress, scratch)
        ended: Job | None = None
        try:
            ended = self._walk(run)
        except FleetError as error:
            ended = self._give_up(run, error)
        except MemoryError:
            ended = self._give_up(run, FleetError("the worker ran out of memory for this job", code="out-of-memory"))
        except Exception as error:
            log.exception("run failed unexpectedly", attempt=job.attempt)
            ended = self._give_up(run, FleetError(f"unexpected {type(error).__name__} in the worker"))
        finally:
            self._leases.release(job)
            shutil.rmtree(scratch, ignore_errors=True)
        self._conclude(run, ended)

    def _walk(self, run: Run) -> Job | None:
        """The straight path; the job as it was committed, or None when the token had become stale."""
        job, progress = run.job, run.progress
        with progress.stage(Stage.LOAD):
            loaded = run.loaded = self._registry.load(job.model, job.version)
        task = loaded.version.task
        params = self._params(run)
        with progress.stage(Stage.FETCH):
            fetched = [self._fetch(run, number, item) for number, item in enumerate(job.inputs)]
        with progress.stage(Stage.DECODE):
            sources = [source for source, _ in fetched]
            media = self._codecs.decode(task.accepts, sources, params, progress)
        outcome = task.run(media, params, loaded.for_run(run.stop), progress)
        del media
        with progress.stage(Stage.ENCODE):
            encoded = self._codecs.encode(task.returns, outcome, run.scratch)
        del outcome
        with progress.stage(Stage.STORE):
            artifacts = self._store(run, encoded)
        inputs = [item for _, item in fetched]
        return self._patiently(
            run,
            lambda: self._jobs.finish(
                job, result=encoded.result, artifacts=artifacts, inputs=inputs, ending=self._ending(run)
            ),
        )

    def _params(self, run: Run) -> object:
        assert run.loaded is not None  # noqa: S101 (set by the stage before)
        try:
            return run.loaded.version.task.Params.model_validate(run.job.params)
        except ValidationError as error:
            raise ValidationFailed(f"params: {faults(error)}") from error

    def _fetch(self, run: Run, number: int, item: JobInput) -> tuple[Source, JobInput]:
        """The input on local disk, and its description with the digest that was read."""
        path = run.scratch / f"input-{number}"
        if item.inline is not None:
            path.write_bytes(base64.b64decode(item.inline.data))
            return Source(path, item.inline.name or "", item.inline.media_type), item
        assert item.object is not None  # noqa: S101 (an input is one or the other)
        reference = item.object
        checked = self._patiently(run, lambda: self._objects.fetch(reference, path, lambda _: run.stop.check()))
        return Source(path, reference.name or "", reference.media_type), JobInput(object=checked)

    def _store(self, run: Run, encoded: Encoded) -> list[Artifact]:
        artifacts = []
        for file in encoded.files:
            key = result_key(run.job.id, run.job.attempt, file.name)
            stored = self._patiently(
                run,
                lambda key=key, file=file: self._objects.put_file(  # type: ignore[misc]
                    key, file.path, media_type=file.media_type, name=file.name
                ),
            )
            artifacts.append(Artifact(name=file.name, object=stored))
        return artifacts

    def _patiently(self, run: Run, call: Callable[[], T]) -> T:
        """Repeats a call while a dependency is away: minutes of work are not thrown away for seconds of outage."""
        give_up_at, pause = time.monotonic() + _PATIENCE_S, 0.5
        while True:
            try:
                return call()
            except IntegrityError:
                raise
            except DependencyError as error:
                if time.monotonic() + pause > give_up_at:
                    raise
                log.warning("waiting for a dependency", code=error.code, pause_s=pause)
                run.stop.wait(pause)
                run.stop.check()
                pause = min(pause * 2, 10.0)

    def _ending(self, run: Run) -> Ending:
        device = self._identity.device
        loaded = run.loaded
        ran_on = RanOn(
            worker=self._identity.name,
            pool=device.pool,
            device=device.name,
            provider=loaded.session.provider if loaded else device.providers.best,
            simulated=False,
            why=run.job.route_reason,
            model_sha256=loaded.version.sha256 if loaded else None,
        )
        return Ending(run.progress.timings, ran_on)

    def _give_up(self, run: Run, error: FleetError) -> Job | None:
        """Writes how the attempt ended; the job as it is then, or None for a stale token."""
        try:
            return self._record_end(run, error)
        except DependencyError as outage:
            # The lease lapses and the reconciler takes over.
            log.error("the end of a run could not be recorded", code=outage.code, ending=error.code)
            return None

    def _record_end(self, run: Run, error: FleetError) -> Job | None:
        job = run.job
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
                return self._jobs.hand_back(job)
            case StopReason.LEASE_LOST:
                return None

    def _conclude(self, run: Run, ended: Job | None) -> None:
        """After the record: tidy up what did not win, and wake those who wait."""
        state = ended.state if ended else None
        self._measures.run_ended(run.job, state, run.progress.timings)
        try:
            if state is not JobState.SUCCEEDED and Stage.STORE.value in run.progress.timings:
                self._objects.remove_prefix(run.prefix)
            if ended is not None and ended.state.ended:
                self._broker.tell_ended(ended.id, ended.state)
        except DependencyError as error:
            log.warning("after the end of a run", code=error.code)
        if state is JobState.SUCCEEDED:
            log.info("job succeeded", attempt=run.job.attempt, **_seconds(run.progress.timings))


def _seconds(timings: dict[str, float]) -> dict[str, float]:
    return {f"{stage}_s": seconds for stage, seconds in timings.items()}
