"""Following a job to its end, whatever becomes of the connection.

    stream ──────▶ the job has ended: done
      ▲  │ the stream ended, or broke off, before the job
      │  ▼
     ask ────────▶ the job has ended: done

The server's events come first. When a stream is over and the job is not, the client asks once: that tells whether the
job exists and the key is good, and it waits for a server that is away. Where no stream comes through (an older server,
a proxy that keeps the bytes to itself) it goes on asking, and the server holds each answer.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing

from pydantic import ValidationError

from fleet_client.errors import APIError, ConnectionFailed, FleetError, Timeout, Unavailable
from fleet_client.problems import read
from fleet_client.records import JobRecord
from fleet_client.retry import ONCE
from fleet_client.server_events import EventReader
from fleet_client.transport import Transport

#: How long the server may hold an answer, in whole seconds: for one who waits for the end, and for one who watches.
HOLD_S, HOLD_WATCHED_S = 20, 1
#: How long a server may be away while a job is followed without a timeout, in seconds.
_LONGEST_ABSENCE_S = 300.0
#: A server says something every 15 s. A stream that is silent for this long is dead, or held back on the way.
_SILENCE_S = 35.0
#: With less time than this left, a stream is not worth its beginning.
_SHORTEST_STREAM_S = 1.0
#: Never two questions within this time, also when the server does not hold them, in seconds.
_PACE_S = 0.5
#: After so many streams in a row that brought not a byte, although the server answers, no more are opened.
_VAIN_STREAMS = 3
_STREAM_HEADERS = {"accept": "text/event-stream", "accept-encoding": "identity", "cache-control": "no-cache"}


class Follower:
    """Follows one job, once. `known` is the record that the caller has; `timeout_s` None is as long as it takes."""

    def __init__(
        self, api: Transport, path: str, *, hold_s: int, timeout_s: float | None, known: JobRecord | None = None
    ) -> None:
        self._api = api
        self._path = path
        self._hold_s = hold_s
        self._timeout_s = timeout_s
        self._known = known
        self._began = self._heard = time.monotonic()
        self._last_id = ""
        self._streams_left = _VAIN_STREAMS

    def records(self) -> Generator[JobRecord]:
        """The job as it is, unless that is known, and again whenever it has changed. The last record has ended.

        Raises Timeout; what kept the server away until the timeout, or without one for five minutes; and at once what
        waiting does not change, for instance NotFound.
        """
        while True:
            with closing(self._answers()) as answers:
                for record in answers:
                    if _unforeseen(record) != _unforeseen(self._known):
                        self._known = record
                        yield record
                    if record.ended:
                        return

    def _answers(self) -> Generator[JobRecord]:
        """One stream if there may be one, and one question."""
        if self._streams_left and self._left_s() > _SHORTEST_STREAM_S:
            yield from self._streamed()
        asked, left_s = time.monotonic(), self._left_s()
        record = self._asked()
        yield record
        if left_s <= 0:
            raise Timeout(
                f"job {record.id} is still {record.state} after {self._timeout_s:g} s; it goes on, wait for it again"
            )
        self._sleep(asked + _PACE_S - time.monotonic())

    def _streamed(self) -> Iterator[JobRecord]:
        """What one stream brings, up to its end, whatever ends it: the question after it tells what is wrong."""
        silence_s = min(_SILENCE_S, self._left_s())
        resume = {"last-event-id": self._last_id} if self._last_id else {}
        self._streams_left -= 1
        try:
            with self._api.stream(f"{self._path}/events", _STREAM_HEADERS | resume, silence_s) as answer:
                reader = EventReader()
                for piece in answer.iter_bytes():
                    self._heard = time.monotonic()
                    self._streams_left = _VAIN_STREAMS
                    for event in reader.feed(piece):
                        record = _record(event.data)
                        if record is not None:
                            self._last_id = event.id
                            yield record
                    if self._left_s() < silence_s - _PACE_S:
                        # This stream could be silent for longer than there is time; the next one is cut to it.
                        return
        except (ConnectionFailed, Unavailable):
            pass
        except Timeout:
            # Of the caller's time, or of its own: then the bytes do not get through.
            self._streams_left = 0 if self._left_s() > 0 else self._streams_left
        except APIError:
            self._streams_left = 0

    def _asked(self) -> JobRecord:
        """The answer to one question; it is put again while the server is away."""
        failures = 0
        while True:
            left_s = self._left_s()
            hold_s = int(min(self._hold_s, max(left_s, 0)))
            try:
                answer = self._api.request(
                    "GET",
                    self._path,
                    headers={"prefer": f"wait={hold_s}"} if hold_s else None,
                    hold_s=hold_s,
                    retries=ONCE,
                )
            except (ConnectionFailed, Timeout, Unavailable) as error:
                absent_s = time.monotonic() - self._heard
                if left_s <= 0 or (self._timeout_s is None and absent_s > _LONGEST_ABSENCE_S):
                    raise
                self._sleep(self._pause_s(failures, error))
                failures += 1
            else:
                self._heard = time.monotonic()
                return read(JobRecord, answer)

    def _left_s(self) -> float:
        return float("inf") if self._timeout_s is None else self._began + self._timeout_s - time.monotonic()

    def _pause_s(self, failures: int, error: FleetError) -> float:
        retries, asked_for = self._api.retries, error.retry_after
        return retries.pause_s(failures, None if asked_for is None else min(asked_for, retries.patience_s))

    def _sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self._left_s())))


def _unforeseen(record: JobRecord | None) -> JobRecord | None:
    """Without the forecast: that is a new one with every answer, and not told in events."""
    return record and record.model_copy(update={"forecast": None})


def _record(data: bytes) -> JobRecord | None:
    """None for what is no job: the word that it was deleted, or a newer server's."""
    try:
        return JobRecord.model_validate_json(data)
    except ValidationError:
        return None
