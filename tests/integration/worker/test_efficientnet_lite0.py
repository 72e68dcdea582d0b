"""The classifier that ships, on photographs: what it says of them, and through which file its weights come."""

import hashlib
from pathlib import Path

import pytest

from fleet.settings import CPU_PROVIDER
from worker.codecs import Codecs
from worker.contract import Source
from worker.engine.loaded import LoadedModel
from worker.engine.model_folder import read_versions
from worker.engine.session import Session, SessionSetup
from worker.house.weights import missing_in
from worker.media.limits import VolumeLimits
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks
from worker.tasks.image_classification import TASK, ClassificationParams

FOLDER = Path(__file__).resolve().parents[3] / "models" / "efficientnet-lite0"
VERSION = read_versions(FOLDER, find_tasks())[0]


def test_the_graph_is_the_one_that_is_vouched_for() -> None:
    assert hashlib.sha256(VERSION.graph.read_bytes()).hexdigest() == VERSION.manifest.source.sha256


@pytest.mark.skipif(
    bool(missing_in(VERSION.folder, VERSION.manifest.source.files)),
    reason="the weights are not here: fleet models pull efficientnet-lite0",
)
@pytest.mark.parametrize(
    ("name", "best", "confidence"),
    # As the same weights answer in timm's own architecture, fed by Pillow and numpy alone.
    [("cat.jpg", ["Egyptian cat", "tiger cat", "tabby"], 0.386), ("coffee.jpg", ["espresso"], 0.957)],
)
def test_photographs_are_what_they_show(tmp_path: Path, name: str, best: list[str], confidence: float) -> None:
    setup = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
    model = LoadedModel(VERSION, Session(VERSION.graph, setup), setup).for_run(StopToken())
    assert list(TASK.check(model)) == []
    codecs, progress = Codecs(VolumeLimits(), tmp_path), JobProgress(StopToken(), tmp_path)
    try:
        source = Source(FOLDER / "example" / name, name, "image/jpeg")
        media = codecs.decode(TASK.accepts, [source], ClassificationParams(), progress)
        outcome = TASK.run(media, ClassificationParams(), model, progress)
        said = codecs.encode(TASK.returns, outcome, tmp_path).result
    finally:
        codecs.close()
    assert [entry["class_name"] for entry in said["predictions"]][: len(best)] == best
    assert said["top_confidence"] == pytest.approx(confidence, abs=0.005)
