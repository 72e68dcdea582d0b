"""From pixels side by side to channels one after the other, and to what a network is fed. OpenCV where it is there:
the same numbers several times faster."""

import numpy as np

from worker.contract import Array
from worker.pictures.resize import opencv


def channels_first(pixels: Array) -> Array:
    """uint8 [h, w, 3] -> uint8 [3, h, w]."""
    cv2 = opencv()
    if cv2 is None:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    channels = np.empty((3, *pixels.shape[:2]), np.uint8)
    # Into these three, rather than into others that would have to be copied next to each other.
    cv2.split(np.ascontiguousarray(pixels), list(channels))
    return channels


def looked_up(channels: Array, table: Array) -> Array:
    """uint8 [3, h, w], float32 [3, 256] -> float32 [3, h, w]: of each channel, what its row says of each level."""
    numbers = np.empty(channels.shape, np.float32)
    cv2 = opencv()
    for channel, row, made in zip(channels, table, numbers, strict=True):
        if cv2 is None:
            np.take(row, channel, out=made, mode="clip")
        else:
            cv2.LUT(channel, row, dst=made)
    return numbers
