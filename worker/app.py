"""The Celery app of the workers: `celery -A worker.app worker`, or `fleet work` for short.

Importing this module only defines; settings are read when Celery first needs its configuration.
"""

from typing import Any
from uuid import UUID

from celery import Celery, signals

from fleet.broker import TASK_NAME
from fleet.logs import configure_logs, get_logger
from fleet.queues import QueueKind, QueueName
from fleet.settings import Settings
from worker.boot import CONSUMER_STEPS, STEPS
from worker.celery_settings import PromptAmqp, celery_settings

app = Celery("fleet", amqp=PromptAmqp, set_as_current=False)
app.add_defaults(lambda: celery_settings(Settings()))
app.steps["worker"].update(STEPS)
app.steps["consumer"].update(CONSUMER_STEPS)
#: Set by the boot steps: what the task below runs with.
app.process = None
app.announcer = None
app.watchdog = None
log = get_logger(__name__)


@app.task(name=TASK_NAME, bind=True)
def run(self: Any, job_id: str, seq: int) -> None:
    """Runs one publication of a job. The message is only a hint: the record decides (see `worker/runner.py`)."""
    process = self.app.process
    if process is None:
        log.error("message before the process was ready", job_id=job_id)
        return
    if self.app.watchdog is not None:
        self.app.watchdog.received()
    try:
        process.runner.run(UUID(job_id), seq, _kind(self.request.delivery_info))
    except ValueError as error:
        # No job id: the message is forged.
        log.warning("message dropped", job_id=job_id, seq=seq, reason=str(error))
    process.end_if_device_is_lost()


def _kind(delivery_info: dict[str, Any] | None) -> QueueKind | None:
    """Of the queue that the message lay in; None for a name that is none of ours."""
    try:
        return QueueName.parse(str((delivery_info or {}).get("routing_key"))).kind
    except ValueError:
        return None


@signals.setup_logging.connect(weak=False)
def _configure_logs(**_: Any) -> None:
    configure_logs(Settings())


@signals.worker_ready.connect(weak=False)
def _consuming(sender: Any, **_: Any) -> None:
    if app.announcer is not None:
        app.announcer.consuming()
