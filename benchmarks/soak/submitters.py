"""The callers: several threads that submit what is planned, and do not give up before they have an answer."""

import queue
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx

from fleet_client import APIError, Client, FleetError, Upload
from fleet_client.retry import Retries
from soak.inputs import file_of, fits_request, inline, request_of
from soak.ledger import Clock, Ledger
from soak.plan import PlannedJob
from tests.support.whole_fleet import FleetProcess

_PAUSE_S = 0.5
#: What a request under way gets to end when the soak does.
_JOIN_S = 10.0
#: What says "not now" and not "never".
_LATER = frozenset({409, 425, 429, 500, 502, 503, 504})


class Trap:
    """Kills a process the moment that a caller has its 202."""

    def __init__(self) -> None:
        self._victim: FleetProcess | None = None
        self._lock = threading.Lock()

    def arm(self, victim: FleetProcess) -> None:
        with self._lock:
            self._victim = victim

    def disarm(self) -> None:
        with self._lock:
            self._victim = None

    @property
    def armed(self) -> bool:
        return self._victim is not None

    def spring(self) -> None:
        with self._lock:
            if self._victim is not None:
                self._victim.signal(signal.SIGKILL)
            self._victim = None


class Submitters:
    """`start`; no longer `busy` when all that was planned is accepted; `stop` gives up what is left."""

    def __init__(self, url: str, plans: Sequence[PlannedJob], clock: Clock, ledger: Ledger, trap: Trap) -> None:
        self._url = url
        self._clock = clock
        self._ledger = ledger
        self._trap = trap
        self._stop = threading.Event()
        self._to_cancel: queue.PriorityQueue[tuple[float, int, str, PlannedJob]] = queue.PriorityQueue()
        by_client = [plan for plan in plans if plan.by_client]
        by_http = [plan for plan in plans if not plan.by_client]
        lists = [(self._by_client, by_client[n::3]) for n in range(3)] + [
            (self._by_http, by_http[n::4]) for n in range(4)
        ]
        self._threads = [threading.Thread(target=work, args=(mine,), daemon=True) for work, mine in lists]
        self._canceller = threading.Thread(target=self._cancel, daemon=True)

    def start(self) -> None:
        for thread in [*self._threads, self._canceller]:
            thread.start()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads) or not self._to_cancel.empty()

    def stop(self) -> None:
        self._stop.set()
        give_up = time.monotonic() + _JOIN_S
        for thread in [*self._threads, self._canceller]:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _due(self, plan: PlannedJob) -> bool:
        """Waits for the job's time. False when the soak was stopped."""
        return not self._stop.wait(max(0.0, plan.at_s - self._clock.now()))

    def _accepted(self, plan: PlannedJob, job_id: str) -> None:
        self._ledger.accept(plan, job_id)
        if plan.cancel_after_s is not None:
            self._to_cancel.put((self._clock.now() + plan.cancel_after_s, plan.number, job_id, plan))

    def _by_http(self, plans: Sequence[PlannedJob]) -> None:
        with httpx.Client(base_url=f"{self._url}/api/v1", timeout=30, trust_env=False) as http:
            for plan in plans:
                if not self._due(plan):
                    return
                data = file_of(plan)
                sent = self._sent(http, plan, data) if data is not None else None
                body = request_of(plan, sent)
                headers = {"idempotency-key": plan.key} | ({"prefer": f"wait={plan.wait_s}"} if plan.wait_s else {})
                for _ in range(2 if plan.repeated else 1):
                    answer = self._insist(http, plan, "/jobs", json=body, headers=headers)
                    if answer is not None:
                        self._accepted(plan, answer["id"])

    def _sent(self, http: httpx.Client, plan: PlannedJob, data: bytes) -> dict[str, Any] | None:
        if fits_request(plan, data):
            return inline(data)
        octets = {"content-type": "application/octet-stream"}
        answer = self._insist(http, plan, "/uploads?name=volume.nrrd", content=data, headers=octets)
        return {"upload": answer["id"]} if answer is not None else None

    def _insist(self, http: httpx.Client, plan: PlannedJob, path: str, **request: Any) -> dict[str, Any] | None:
        """The answer's body, after as many tries as it takes; None when it is refused for good or the soak ends."""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer = http.post(path, **request)
            except httpx.HTTPError as error:
                self._ledger.count(type(error).__name__)
                self._stop.wait(_PAUSE_S)
                continue
            if answer.status_code == 202:
                self._trap.spring()
            self._ledger.answered(answer.status_code, answer.headers, time.monotonic() - began)
            if answer.is_success:
                return dict(answer.json())
            if answer.status_code not in _LATER:
                self._ledger.refuse(plan, f"{answer.status_code} {answer.json().get('code')}")
                return None
            self._stop.wait(float(answer.headers.get("retry-after", _PAUSE_S)))
        return None

    def _by_client(self, plans: Sequence[PlannedJob]) -> None:
        with Client(self._url, timeout=30, retries=Retries(times=3, patience_s=10)) as client:
            for plan in plans:
                if not self._due(plan):
                    return
                upload: Upload | None = None
                repeats = 2 if plan.repeated else 1
                while repeats and not self._stop.is_set():
                    try:
                        upload = upload or self._uploaded(client, plan)
                        job_id = self._submitted(client, plan, upload)
                    except APIError as error:
                        self._ledger.count(str(error.status))
                        if error.status not in _LATER:
                            self._ledger.refuse(plan, f"{error.status} {error.code}")
                            break
                        self._stop.wait(_PAUSE_S)
                    except FleetError as error:
                        self._ledger.count(type(error).__name__)
                        self._stop.wait(_PAUSE_S)
                    else:
                        self._trap.spring()
                        self._ledger.count("202 or 200 by the client")
                        self._accepted(plan, job_id)
                        repeats -= 1

    @staticmethod
    def _uploaded(client: Client, plan: PlannedJob) -> Upload | None:
        data = file_of(plan)
        return None if data is None or fits_request(plan, data) else client.upload(data, name="volume.nrrd")

    @staticmethod
    def _submitted(client: Client, plan: PlannedJob, upload: Upload | None) -> str:
        data = file_of(plan)
        inputs: list[Any] = [] if data is None else [upload or data]
        body = request_of(plan, None)
        return client.submit(
            None,
            inputs,
            model=body["model"],
            params=body["params"],
            priority=body["priority"],
            labels=body["labels"],
            deadline_s=body.get("deadline_s"),
            max_attempts=body.get("max_attempts"),
            idempotency_key=plan.key,
            wait_s=plan.wait_s,
        ).id

    def _cancel(self) -> None:
        with httpx.Client(base_url=f"{self._url}/api/v1", timeout=30, trust_env=False) as http:
            while not self._stop.is_set():
                try:
                    at_s, number, job_id, plan = self._to_cancel.get(timeout=0.2)
                except queue.Empty:
                    continue
                if at_s > self._clock.now():
                    self._to_cancel.put((at_s, number, job_id, plan))
                    self._stop.wait(0.05)
                    continue
                try:
                    answer = http.post(f"/jobs/{job_id}/cancel")
                except httpx.HTTPError:
                    self._to_cancel.put((at_s + _PAUSE_S, number, job_id, plan))
                    continue
                self._ledger.count(f"cancel {answer.status_code}")
                if answer.status_code == 200:
                    self._ledger.note_cancelled(plan)
                elif answer.status_code in _LATER - {409}:
                    self._to_cancel.put((self._clock.now() + _PAUSE_S, number, job_id, plan))
