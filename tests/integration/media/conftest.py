"""Decoding in this process, which is what most tests of files need; test_decoding_process.py uses the children."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import InputError
from tests.support.volumes import volume_of
from worker.contract import Array, Volume
from worker.media.decode import Decoded, decode
from worker.media.limits import VolumeLimits

SMALL = VolumeLimits(max_voxels=100_000, max_bytes=2_000_000, max_files=50)

Decode = Callable[..., Decoded]
Refuse = Callable[..., InputError]


def voxels_of(decoded: Decoded) -> Array:
    x, y, z = decoded.geometry.size
    return np.fromfile(decoded.voxels, dtype=decoded.dtype).reshape(z, y, x)


@pytest.fixture
def decoding(tmp_path: Path) -> Decode:
    """decode(path, series_uid=None) -> Decoded, under small limits."""
    count = iter(range(1000))

    def call(path: Path, series_uid: str | None = None, limits: VolumeLimits = SMALL) -> Decoded:
        return decode(path, limits, tmp_path / f"scratch-{next(count)}", series_uid)

    return call


@pytest.fixture
def refusal(decoding: Decode) -> Refuse:
    """The error that decoding ends in; its message names no file."""

    def call(path: Path, series_uid: str | None = None, limits: VolumeLimits = SMALL) -> InputError:
        with pytest.raises(InputError) as caught:
            decoding(path, series_uid, limits)
        assert str(path.parent) not in caught.value.message
        return caught.value

    return call


@pytest.fixture
def oblique() -> Volume:
    """int16 with negative values, oblique, anisotropic, off the origin."""
    array = np.random.default_rng(8).integers(-1000, 1500, (7, 9, 11)).astype(np.int16)
    return volume_of(array, "RAS", (8, -5, 11), (0.75, 0.8, 2.5), (31.25, -64.5, 12.75))
