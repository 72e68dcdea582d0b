"""How much memory one run of a session takes: a generous guess, until a run has shown it.

What a graph holds between its layers cannot be read off its file, and one gigabyte more or less decides whether a
volume fits. The memory of a convolutional network grows in proportion to its input: 720 bytes per voxel for a U-Net of
32 to 256 channels at 48³ as at 96³, 240 for one of 8 to 32 channels (measured; ONNX Runtime 1.31, CPU).
"""

import threading
from math import prod

from worker.contract import Shapes

#: Bytes per input element: five times what a usual U-Net takes. Weighing puts right what is too much, and nobody what
#: is too little.
_GUESS = 4096
#: With the layers in the device's own memory, what is left here are copies of inputs and outputs.
_GUESS_ON_DEVICE = 256
#: Inputs smaller than this are not worth knowing: their runs cost less than what is kept back.
_SMALL_ELEMENTS = 1 << 18
_SMALL_BYTES = 16 * 1024**2
#: A run takes what the one before it left, where that still has the right pieces: the second one of a shape took up to
#: an output's size more, and later ones up to 3 %.
RUNS = 3
_MARGIN = 1.1
#: A larger input than this many times the largest one seen is a guess again.
_STRETCH = 2.0


class Appetite:
    """Of one session; thread-safe. Knows the largest run that was seen and goes by its size."""

    def __init__(self, *, on_device: bool = False) -> None:
        self._lock = threading.Lock()
        self._guessed = _GUESS_ON_DEVICE if on_device else _GUESS
        self._elements = 0
        self._bytes = 0
        #: Runs of that size so far, and what the next one may add.
        self._runs = 0
        self._to_come = 0

    def bytes_for(self, shapes: Shapes) -> int:
        """What a run on inputs of these shapes takes, its outputs included."""
        elements = count(shapes)
        with self._lock:
            if 0 < elements <= self._elements * _STRETCH:
                known = (_MARGIN * self._bytes + self._to_come) * elements / self._elements
                return round(known) + _SMALL_BYTES
        return self._guessed * elements + _SMALL_BYTES

    def knows(self, shapes: Shapes) -> bool:
        """Whether `bytes_for` goes by a run that was seen, and not by a guess."""
        return count(shapes) <= self._elements * _STRETCH

    def is_curious(self, elements: int) -> bool:
        """Whether a run on so many elements would tell something new."""
        if elements < _SMALL_ELEMENTS:
            return False
        return elements > self._elements or (elements == self._elements and self._runs < RUNS)

    def is_new(self, elements: int) -> bool:
        """Whether it would be the first of its size: then nothing of earlier ones may be left when it begins."""
        return elements > self._elements

    def learn(
        self, elements: int, grown_bytes: int, output_bytes: int = 0, *, fresh: bool = True, runs: int = 1
    ) -> None:
        """What the process grew by in so many runs; `fresh`: nothing was left of earlier ones when they began."""
        with self._lock:
            if elements > self._elements:
                self._elements, self._bytes, self._runs = elements, 0, 0
            if elements == self._elements:
                # Whatever others gave back meanwhile, its outputs are there.
                whole = max(self._bytes, grown_bytes, output_bytes)
                self._bytes = whole if fresh else self._bytes + max(grown_bytes, 0)
                self._runs += runs
                self._to_come = output_bytes if self._runs < RUNS else 0


def count(shapes: Shapes) -> int:
    """Elements of all inputs together."""
    return sum(prod(shape) for shape in shapes.values())
