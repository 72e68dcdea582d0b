"""Files damaged at random, each of which ends as a plausible volume or as an error of the input, and nothing stays.

`make fuzz` does the same with many more; a seed, a kind and a number name each file in both.
"""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fleet.errors import InputError
from tests.support.decoder_trial import Trial, Verdict, implausible, trial
from tests.support.media_files import written
from tests.support.mutation import mutant
from tests.support.ort_model import RecordedProgress
from tests.support.sound_files import NEVER_A_VOLUME, PLAIN, ZIPPED, sound_files
from tests.support.volumes import volume_of
from worker.contract import Array, Source, Volume
from worker.media.limits import VolumeLimits

SEED = 2026
#: 1,440 plain files at some milliseconds each, and 48 zips, which take a decoding process each.
HOW_MANY = {**dict.fromkeys(PLAIN, 180), **dict.fromkeys(ZIPPED, 6)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return sound_files(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with trial(tmp_path_factory.mktemp("trial")) as opened:
        yield opened


@pytest.mark.parametrize("kind", HOW_MANY)
def test_a_mutated_file_is_a_volume_or_an_input_error(kind: str, sound: dict[str, bytes], decoders: Trial) -> None:
    mutants = [mutant(sound, kind, seed=SEED, number=number) for number in range(HOW_MANY[kind])]
    outcomes = [(one, decoders.run(one.data, "upload")) for one in mutants]
    assert [f"{one} -> {outcome}" for one, outcome in outcomes if not outcome.verdict.sound] == []
    assert decoders.left_behind() == []
    verdicts = {outcome.verdict for _, outcome in outcomes}
    # Damage that always or never shows would test little.
    if kind in PLAIN:
        assert verdicts == ({Verdict.REFUSED} if kind in NEVER_A_VOLUME else {Verdict.REFUSED, Verdict.DECODED})


@pytest.mark.parametrize("kind", HOW_MANY)
def test_before_it_is_damaged_it_is_a_volume(kind: str, sound: dict[str, bytes], decoders: Trial) -> None:
    outcome = decoders.run(sound[kind], "upload")
    assert outcome.verdict is (Verdict.REFUSED if kind in NEVER_A_VOLUME else Verdict.DECODED), outcome


@pytest.mark.parametrize("kind", ["nii", "nii-scaled"])
def test_what_is_decoded_of_a_damaged_nifti_another_reader_reads_alike(
    kind: str, sound: dict[str, bytes], decoders: Trial, tmp_path: Path
) -> None:
    """Voxel by voxel and in space: a misread volume is worse than a refused one."""
    path, compared = tmp_path / "a.nii", 0
    for number in range(150):
        one = mutant(sound, kind, seed=SEED + 1, number=number)
        path.write_bytes(one.data)
        read = read_by_both(path, decoders)
        if read is None:
            continue
        volume, voxels, affines = read
        assert np.allclose(np.transpose(volume.array), voxels.reshape(voxels.shape[:3]), rtol=1e-5), one
        steps = np.reshape(volume.geometry.direction, (3, 3)) * volume.geometry.spacing
        placed = np.column_stack([steps, volume.geometry.origin])
        assert any(np.allclose(placed, affine, rtol=1e-3, atol=1e-3) for affine in affines), one
        compared += 1
    assert compared > 20


def read_by_both(path: Path, decoders: Trial) -> tuple[Volume, Array, list[Array]] | None:
    """Ours, and by nibabel the voxels [x, y, z] and the affines (3×4) of qform and sform in LPS mm."""
    nifti: Any = nibabel.Nifti1Image
    # Either may refuse it, nibabel for its extensions.
    with suppress(InputError, ImageFileError, HeaderDataError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = decoders.reader.read(Source(path, "", ""), RecordedProgress())
        image = nifti.from_filename(path)
        # Which it leaves to its callers.
        unit = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
        affines = [np.diag([-unit, -unit, unit]) @ affine[:3] for affine in (image.get_qform(), image.get_sform())]
        return volume, np.asarray(image.dataobj), affines
    return None


def test_a_seed_names_the_same_files_for_good(sound: dict[str, bytes], tmp_path: Path) -> None:
    again = sound_files(tmp_path)
    assert again == sound
    for kind in HOW_MANY:
        assert mutant(again, kind, seed=5, number=3) == mutant(sound, kind, seed=5, number=3)
        assert len({mutant(sound, kind, seed=5, number=number).data for number in range(20)}) > 10


def test_a_decoder_that_wants_too_much_memory_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    large = written(volume_of(np.zeros((200, 512, 512), np.uint8)), tmp_path / "a.nii")
    # Nothing beyond what the process maps already.
    with trial(tmp_path / "trial", VolumeLimits(max_bytes=60_000_000, overhead_bytes=0)) as cramped:
        assert cramped.run(large.read_bytes(), "upload").verdict in (Verdict.GREEDY, Verdict.CRASHED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spacing": (0.0, 1.0, 1.0)}, "not positive"),
        ({"origin": (0.0, float("nan"), 0.0)}, "not finite"),
        ({"direction": (1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "right angles"),
        ({"size": (6, 5, 3)}, "another size"),
    ],
)
def test_what_cannot_be_a_volume_is_noticed(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "voxels"
    np.zeros((4, 5, 6), np.int16).tofile(path)
    sound = volume_of(np.memmap(path, np.int16, "r", shape=(4, 5, 6)))
    assert implausible(sound) == ""
    assert said in implausible(Volume(sound.array, replace(sound.geometry, **change)))


def test_voxels_that_do_not_fill_their_file_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "voxels"
    np.zeros(130, np.int16).tofile(path)
    assert "longer" in implausible(volume_of(np.memmap(path, np.int16, "r", shape=(4, 5, 6))))
