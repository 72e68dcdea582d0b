"""A connection whose whole life has one bound in time, under `http.client`. Used by `fleet/outward.py`."""

import io
import socket
import time


class Clock:
    """A moment after which nothing is waited for, and how long each step until then may take at most."""

    def __init__(self, ends_at: float, step_s: float = float("inf")) -> None:
        self._ends_at = ends_at
        self._step_s = step_s

    def left_s(self) -> float:
        """Raises TimeoutError when nothing is left."""
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return min(left_s, self._step_s)

    def shortened(self, to_s: float) -> "Clock":
        return Clock(min(self._ends_at, time.monotonic() + to_s))


class TimedReader(io.RawIOBase):
    """A socket's timeout counts from byte to byte; here it is what is left of the whole."""

    def __init__(self, connected: socket.socket, clock: Clock) -> None:
        self._connected = connected
        self.clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._connected.settimeout(self.clock.left_s())
        return self._connected.recv_into(buffer)


class Wire:
    """As much of a socket as `http.client` uses. Who made the socket closes it."""

    def __init__(self, connected: socket.socket, clock: Clock) -> None:
        self._connected = connected
        self._clock = clock
        self.reader = TimedReader(connected, clock)

    def sendall(self, data: bytes) -> None:
        # Not by the socket's own: under TLS its timeout begins anew with every record.
        left = memoryview(data)
        while left:
            self._connected.settimeout(self._clock.left_s())
            left = left[self._connected.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader)

    def close(self) -> None:
        pass
