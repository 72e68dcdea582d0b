"""Sends webhooks: threads of its own in every api process, never in the way of a request, a job or the reconciler.

The record hands each due delivery to one sender for the length of a lease, so any number of processes may send, and
what a killed one had under way is repeated by another. A host gets few tries at a time and a try few seconds: who
answers slowly, or never, delays nobody else.
"""

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from api.measures import Measures
from api.webhook_bodies import WebhookBodies
from fleet.errors import DependencyError, FleetError
from fleet.logs import get_logger
from fleet.outward import Answer, Outward
from fleet.webhook_keys import WebhookKeys
from fleet.webhook_values import Delivery, TryResult
from fleet.webhooks import WebhookStore

#: Tries under way in this process: at all, and at one host.
MAX_TRIES = 16
MAX_TRIES_PER_HOST = 2
_LOOK_EVERY_S = 1.0
#: Beyond the time of a try itself: for its way to the record.
_LEASE_MARGIN_S = 10.0
_CHORES_EVERY_S = 60.0
_FORGOTTEN_AT_ONCE = 5000
#: Where no secrets are left, what waits is given up after this: a pending delivery keeps its job.
_ABANDONED_S = 4 * 86_400.0
_GRACE_S = 3.0
_ASK_FOR_PATIENCE = frozenset({429, 502, 503, 504})
log = get_logger(__name__)


class WebhookSender:
    """`start` and `close` with the process."""

    def __init__(
        self,
        *,
        store: WebhookStore,
        keys: WebhookKeys,
        outward: Outward,
        measures: Measures,
        bodies: WebhookBodies,
        timeout_s: float,
        retention_s: float,
    ) -> None:
        self._store = store
        self._keys = keys
        self._outward = outward
        self._measures = measures
        self._bodies = bodies
        self._timeout_s = timeout_s
        self._retention_s = retention_s
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._stop = threading.Event()
        self._news = threading.Event()
        #: (tenant, host) -> tries under way there.
        self._busy: Counter[tuple[str, str]] = Counter()
        self._idle = threading.Condition()
        self._chores_at = time.monotonic()
        self._fault: str | None = None

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may be due: looks at once."""
        self._news.set()

    def close(self) -> None:
        """Begins no new try, and leaves those that do not end in a few seconds to whoever repeats them."""
        self._stop.set()
        self._news.set()
        ends_at = time.monotonic() + _GRACE_S
        if self._thread.is_alive():
            self._thread.join(_GRACE_S)
        with self._idle:
            self._idle.wait_for(lambda: not self._busy.total(), max(0.0, ends_at - time.monotonic()))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.clear()
            try:
                if self._keys.configured:
                    self._begin_due()
                if time.monotonic() >= self._chores_at:
                    self._chores()
                    self._chores_at = time.monotonic() + _CHORES_EVERY_S
            except DependencyError as error:
                if self._fault != error.code:
                    log.warning("webhooks wait", error=error.code)
                self._fault = error.code
            except Exception:
                log.exception("webhooks failed")
            else:
                if self._fault:
                    log.info("webhooks go on")
                self._fault = None
            # Unsigned ones are never sent: then there is nothing to look for.
            self._news.wait(_LOOK_EVERY_S if self._keys.configured else _CHORES_EVERY_S)

    def _begin_due(self) -> None:
        with self._idle:
            busy = dict(self._busy)
        free = MAX_TRIES - sum(busy.values())
        if free <= 0:
            return
        # Counted from before the lease: whatever keeps this process, it sends nothing after its lease.
        ends_at = time.monotonic() + self._timeout_s
        lease_s = self._timeout_s + _LEASE_MARGIN_S
        for delivery in self._store.take_due(free, lease_s=lease_s, per_host=MAX_TRIES_PER_HOST, busy=busy):
            with self._idle:
                self._busy[delivery.tenant, delivery.host] += 1
            try:
                threading.Thread(target=self._try, args=(delivery, ends_at), name="webhook-try", daemon=True).start()
            except RuntimeError:
                self._ended(delivery)
                raise

    def _chores(self) -> None:
        forgotten = self._store.forget(self._retention_s, _FORGOTTEN_AT_ONCE)
        if forgotten:
            log.info("old webhooks forgotten", count=forgotten)
        abandoned = 0 if self._keys.configured else self._store.abandon(_ABANDONED_S)
        if abandoned:
            log.warning("webhooks given up: there is no WEBHOOK_SECRETS to sign them with", count=abandoned)

    def _try(self, delivery: Delivery, ends_at: float) -> None:
        try:
            self._settle(delivery, self._sent(delivery, ends_at))
        except DependencyError as error:
            # It is repeated after its lease: a receiver tells repetitions by their id.
            log.warning("a webhook's try is not recorded", delivery=delivery.message_id, error=error.code)
        except Exception:
            log.exception("a webhook's try failed", delivery=delivery.message_id)
        finally:
            self._ended(delivery)
            self._news.set()

    def _ended(self, delivery: Delivery) -> None:
        with self._idle:
            self._busy[delivery.tenant, delivery.host] -= 1
            # A host with nothing under way is no host to remember.
            self._busy += Counter()
            self._idle.notify_all()

    def _sent(self, delivery: Delivery, ends_at: float) -> TryResult:
        begun = time.monotonic()
        answer, error = None, None
        try:
            answer = self._posted(delivery, ends_at)
            error = _fault(answer)
        except FleetError as refused:
            error = f"{refused.code}: {refused.message}"
        except Exception:
            log.exception("a webhook could not be sent", delivery=delivery.message_id)
            error = "internal-error: the server's log has more"
        took_ms = round((time.monotonic() - begun) * 1000, 1)
        if answer is None:
            return TryResult(took_ms, None, error)
        return TryResult(took_ms, answer.status, error, _retry_after_s(answer))

    def _posted(self, delivery: Delivery, ends_at: float) -> Answer:
        media_type, body = self._bodies.of(delivery)
        timestamp = int(time.time())
        headers = {
            "Content-Type": media_type,
            "User-Agent": "fleet-webhooks/1",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": self._keys.signature(delivery.tenant, delivery.message_id, timestamp, body),
        }
        within_s = max(0.0, ends_at - time.monotonic())
        return self._outward.send("POST", delivery.url, headers=headers, body=body, within_s=within_s)

    def _settle(self, delivery: Delivery, result: TryResult) -> None:
        state = self._store.record_try(delivery, result)
        self._measures.webhook_tried(state.value if state else "stale")
        # Not the URL: its path may be a secret of the receiver's.
        log.info(
            "webhook tried",
            delivery=delivery.message_id,
            job_id=str(delivery.job_id),
            type=delivery.type,
            host=delivery.host,
            number=delivery.tries,
            status=result.status,
            error=result.error,
            took_ms=result.took_ms,
            state=state.value if state else "stale",
        )


def _fault(answer: Answer) -> str | None:
    if 200 <= answer.status < 300:
        return None
    if 300 <= answer.status < 400:
        return f"answered {answer.status}: redirects are not followed"
    return f"answered {answer.status}"


def _retry_after_s(answer: Answer) -> float:
    """Seconds that the receiver asks for: in seconds or as a date (RFC 9110, 10.2.3); 0 when it asks for none."""
    told = answer.headers.get("retry-after", "").strip()
    if answer.status not in _ASK_FOR_PATIENCE or not told:
        return 0.0
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        moment = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
