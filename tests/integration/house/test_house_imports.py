"""The importer in this process, against the record and the object store: how imports end."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from onnx import helper

from fleet.catalogue import Catalogue
from fleet.contracts import Lane, Pool
from fleet.database import Database
from fleet.model_source import AtUrl, OnHub, Trained
from fleet.settings import Settings
from tests.support.file_server import Site, hub
from tests.support.graphs import graph, scale_graph, with_external_data
from tests.support.house import TestHouse, house
from tests.support.image_embedders import unpacked
from tests.support.triton_repository import identity
from tests.support.waiting import eventually
from worker.device import prove_device
from worker.engine.model_folder import read_versions
from worker.house.importer import Importer
from worker.house.importing import Workshop
from worker.house.opened import open_house
from worker.measures import Measures
from worker.memory.share import Memory
from worker.tasks import find_tasks


@contextmanager
def importing(settings: Settings, folder: Path, pool: Pool = Pool.CPU, **changes: Any) -> Iterator[Importer]:
    """A worker's importer and nothing else of it."""
    settings = settings.model_copy(
        update={"model_cache_path": folder / "cache", "inference_device": "cpu", "lease_s": 2.0, **changes}
    )
    folder.mkdir(exist_ok=True)
    device = dataclasses.replace(prove_device(settings, 1), pool=pool)
    with Database(settings.database_dsn) as database:
        opened = open_house(settings, database, TestHouse(database, settings).objects, find_tasks(), Measures())
        memory = Memory.of_process(0, folder, lambda: None)
        workshop = Workshop(settings, device, opened.objects, opened.downloads, opened.disk, memory, dict(opened.tasks))
        importer = Importer(opened.records, workshop, settings, worker="importer", pool=pool)
        importer.start()
        try:
            yield importer
        finally:
            importer.close()
            opened.disk.close()


@pytest.fixture
def home(settings: Settings) -> Iterator[TestHouse]:
    with house(settings) as made:
        yield made


@pytest.fixture
def server() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


def test_a_version_with_external_data_is_ready_with_its_card_and_report(
    settings: Settings, home: TestHouse, tmp_path: Path
) -> None:
    made = with_external_data(tmp_path)
    files = {"model.onnx": made.read_bytes(), "model.onnx.data": (tmp_path / "model.onnx.data").read_bytes()}
    manifest = {"task": "tensors", "description": "three times", "lane": "interactive"}
    with importing(settings, tmp_path / "w"):
        row = home.wait(home.ask("triple", home.upload(files), manifest=manifest))
    assert row.state == "ready", row.error
    assert {file.path for file in row.files} == {"1/model.onnx", "1/model.onnx.data", "model.yaml"}
    assert row.report is not None
    assert row.report.keys() >= {"load_s", "warm_s", "memory_bytes", "provider", "layout", "graphs"}
    with Database(settings.database_dsn) as database:
        card = Catalogue(database).get("triple").card
    assert (card.task, card.description) == ("tensors", "three times")
    assert [tensor.name for tensor in card.inputs] == ["x"]
    assert {file.key for file in row.files} == set(home.objects.keys("models/"))


@pytest.mark.parametrize(
    ("manifest", "config"),
    [(None, ""), ({"description": "y = x"}, ""), (None, "version_policy { specific { versions: [7] } }\n")],
    ids=["bare", "described", "specific"],
)
def test_what_nobody_says_is_filled_in_as_in_a_folder(
    settings: Settings, home: TestHouse, tmp_path: Path, manifest: dict[str, Any] | None, config: str
) -> None:
    graph_file = identity(tmp_path / "models" / "m" / "1" / "model.onnx", dims=("n", 4))
    (plain,) = read_versions(tmp_path / "models" / "m", find_tasks())
    files = {"model.onnx": graph_file.read_bytes()} | ({"config.pbtxt": config.encode()} if config else {})
    with importing(settings, tmp_path / "w"):
        row = home.wait(home.ask("m", home.upload(files), manifest=manifest))
    assert row.state == "ready", row.error
    with Database(settings.database_dsn) as database:
        card = Catalogue(database).get("m").card
    assert (card.lane, card.max_batch_size) == (Lane.INTERACTIVE, 4)
    expected = plain.card()
    assert card.config | {"version_policy": {}} == expected.config | {"version_policy": {}}
    assert card.model_copy(update={"description": "", "config": expected.config}) == expected


@pytest.mark.parametrize(
    "manifest",
    [
        b'task: tensors\ndescription: "a\\0b"\n',
        b"task: tensors\ndeadline_s: .inf\n",
        b"task: tensors\nexample: {params: {when: 2020-01-01}}\n",
        b"task: tensors\nexample: {params: {x: " + b"[" * 900 + b"]" * 900 + b"}}\n",
        b"a0: &a0 [1]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 50)),
    ],
    ids=["nul", "infinity", "date", "deep", "bomb"],
)
def test_a_manifest_that_the_record_does_not_take_is_refused(
    settings: Settings, home: TestHouse, tmp_path: Path, manifest: bytes
) -> None:
    files = {"model.onnx": scale_graph(), "model.yaml": manifest}
    with importing(settings, tmp_path / "w"):
        row = home.wait(home.ask("m", home.upload(files)))
    assert row.error is not None
    assert row.error["code"] == "manifest-invalid", row.error


@pytest.mark.parametrize(
    ("files", "manifest", "code", "word"),
    [
        ({"model.onnx": b"no graph"}, None, "graph-unreadable", "model.onnx"),
        ({"model.onnx": scale_graph(), "run.py": b""}, None, "refused-file", "run.py"),
        ({"model.onnx": scale_graph()}, {"task": "tensors", "lane": "fast"}, "manifest-invalid", "lane"),
        ({"model.onnx": scale_graph()}, {"task": "nothing"}, "task-unknown", "nothing"),
        (
            {"model.onnx": scale_graph()},
            {"task": "tensors", "inputs": [{"name": "z", "datatype": "FP32", "shape": [-1]}]},
            "model-mismatch",
            "z",
        ),
        ({"model.onnx": graph([helper.make_node("Nope", ["x"], ["y"])], [4])}, None, "model-unloadable", "Nope"),
    ],
    ids=["no-graph", "program", "manifest", "task", "mismatch", "operator"],
)
def test_what_is_wrong_is_said_and_nothing_is_left(
    settings: Settings, home: TestHouse, tmp_path: Path, files: dict[str, bytes], manifest: Any, code: str, word: str
) -> None:
    with importing(settings, tmp_path / "w"):
        row = home.wait(home.ask("m", home.upload(files), manifest=manifest))
        assert row.state == "failed"
        assert row.error is not None
        assert row.error["code"] == code, row.error
        assert word in row.error["message"]
        eventually(lambda: not home.objects.keys("models/"))
        eventually(lambda: not list((tmp_path / "w" / "cache").glob("imports/*/*")))


def test_a_model_of_the_hub_is_brought_in_after_its_connection_broke(
    settings: Settings, home: TestHouse, server: Site, tmp_path: Path
) -> None:
    hub(server, "org/it", {"model.onnx": scale_graph(2, size=50_000), "config.json": b'{"id2label": {"0": "cat"}}'})
    [path] = [path for path in server.files if path.endswith("model.onnx") and "main" not in path]
    server.breaks.append((path, 100_000))
    with importing(settings, tmp_path / "w", hf_endpoint=server.url):
        row = home.wait(home.ask("it", OnHub(repository="org/it")))
    assert row.state == "ready", row.error
    assert [seen.headers.get("range") for seen in server.asked(path)] == [None, "bytes=100000-"]
    with Database(settings.database_dsn) as database:
        assert Catalogue(database).get("it").card.labels == {0: "cat"}


def test_several_graphs_of_the_hub_become_one_version(
    settings: Settings, home: TestHouse, server: Site, tmp_path: Path
) -> None:
    clip = unpacked("clip-towers", tmp_path)
    files = {path.name: path.read_bytes() for path in clip.glob("*.json")} | {"onnx/other.onnx": b"no graph"}
    hub(server, "org/clip", files | {f"onnx/{path.name}": path.read_bytes() for path in clip.glob("1/*.onnx")})
    source = OnHub(repository="org/clip", graphs=["onnx/vision.onnx", "onnx/text.onnx"])
    manifest = yaml.safe_load((clip / "model.yaml").read_text("utf-8"))
    with importing(settings, tmp_path / "w", hf_endpoint=server.url):
        row = home.wait(home.ask("clip", source, manifest=manifest), within_s=180)
    assert row.state == "ready", row.error
    assert {file.path for file in row.files if file.path.endswith(".onnx")} == {"1/vision.onnx", "1/text.onnx"}


def test_a_users_url_into_a_private_network_is_refused_though_the_hub_is_there(
    settings: Settings, home: TestHouse, server: Site, tmp_path: Path
) -> None:
    server.files["/model.onnx"] = scale_graph()
    with importing(settings, tmp_path / "w", hf_endpoint=server.url):
        row = home.wait(home.ask("m", AtUrl(url=f"{server.url}/model.onnx")))
        checkpoint = home.wait(home.ask("m", Trained(checkpoint_url=f"{server.url}/model.onnx")))
    assert row.error is not None
    assert checkpoint.error is not None
    assert (row.error["code"], checkpoint.error["code"]) == ("address-refused", "address-refused")
    assert not server.seen


def test_a_gpu_only_model_is_left_to_workers_with_a_gpu(settings: Settings, home: TestHouse, tmp_path: Path) -> None:
    with importing(settings, tmp_path / "w"):
        manifest = {"task": "tensors", "device": "gpu-only"}
        row = home.ask("m", home.upload({"model.onnx": scale_graph()}), manifest=manifest)
        eventually(lambda: home.records.get("m", 1).pool is Pool.GPU)
        assert home.wait(row, "requested").error is None


def test_an_import_that_killed_its_workers_is_given_up(settings: Settings, home: TestHouse, tmp_path: Path) -> None:
    row = home.ask("m", home.upload({"model.onnx": scale_graph()}))
    for attempt in range(1, 4):
        held = home.records.claim_import(f"victim-{attempt}", Pool.CPU, 0.0)
        assert held is not None
    with importing(settings, tmp_path / "w"):
        ended = home.wait(row)
        assert ended.error is not None
        assert ended.error["code"] == "import-poisoned"
        home.records.retry_import("m", 1)
        assert home.wait(row, "ready").losses == 0


def test_a_drained_worker_hands_its_import_back(
    settings: Settings, home: TestHouse, server: Site, tmp_path: Path
) -> None:
    hub(server, "org/it", {"model.onnx": scale_graph()})
    server.faults += [(f"/org/it/resolve/{'0123456789abcdef' * 2}01234567/model.onnx", 503, {"Retry-After": "60"})] * 9
    with importing(settings, tmp_path / "w", hf_endpoint=server.url):
        row = home.wait(home.ask("it", OnHub(repository="org/it")), "importing")
    assert home.records.get("it", 1).state == "requested"
    server.faults.clear()
    with importing(settings, tmp_path / "w", hf_endpoint=server.url):
        assert home.wait(row).state == "ready"


def test_a_removed_version_loses_its_objects_and_then_its_row(
    settings: Settings, home: TestHouse, tmp_path: Path
) -> None:
    with importing(settings, tmp_path / "w"):
        home.wait(home.ask("m", home.upload({"model.onnx": scale_graph()})))
        home.records.remove("m", 1)
        eventually(lambda: not home.records.versions("m"))
        assert not home.objects.keys("models/")
