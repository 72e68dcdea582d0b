"""A version of several graphs is loaded, leased, warmed, evicted and unloaded as one model."""

import gc
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from fleet.contracts import Pool
from fleet.errors import ModelError, NoCapableWorker, RunStopped, ValidationFailed
from fleet.settings import CPU_PROVIDER
from tests.support.blips import SHIPPED, ask, exported
from tests.support.graphs import pointing_to, scale_graph, with_external_data
from worker.device import Device
from worker.engine.checking import inspect
from worker.engine.device_memory import HostMemory
from worker.engine.loaded import LoadedModel
from worker.engine.loading import Loader, ready
from worker.engine.model_folder import read_versions
from worker.engine.model_room import ModelRoom
from worker.engine.model_version import ModelVersion
from worker.engine.providers import Providers
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.engine.setup import Setups
from worker.house.layout import Wish, lay_out
from worker.house.scan import scan_folder
from worker.precision.convert import Precision
from worker.precision.quantize import quantize
from worker.stop import StopReason, StopToken
from worker.tasks import find_tasks

SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1, spin=False)
DEVICE = Device("a device", Pool.CPU, Providers([], [], [CPU_PROVIDER]), concurrency=1, intra_op_threads=2)
GRAPHS = {"a": 2.0, "b": 3.0, "c": 5.0}


def put(root: Path, name: str = "m", graphs: dict[str, bytes] | None = None, **manifest: Any) -> Path:
    """A model of graphs that multiply."""
    folder = root / name
    (folder / "1").mkdir(parents=True)
    for graph, content in (graphs or {graph: scale_graph(factor) for graph, factor in GRAPHS.items()}).items():
        (folder / "1" / f"{graph}.onnx").write_bytes(content)
    (folder / "model.yaml").write_text(yaml.safe_dump({"task": "visual-qa"} | manifest), "utf-8")
    return folder


def version_of(folder: Path) -> ModelVersion:
    return read_versions(folder, find_tasks())[0]


def registry_over(root: Path, room: ModelRoom | None = None, after_load: Any = None) -> Registry:
    return Registry(Repository(root, find_tasks()), lambda version: SETUP, room=room, after_load=after_load)


def sessions(loaded: LoadedModel) -> list[Session]:
    return [graph.session for graph in loaded.graphs.values()]


def closed(loaded: LoadedModel) -> list[bool]:
    return [session._session is None for session in sessions(loaded)]


def test_each_graph_is_a_model_by_its_files_name(tmp_path: Path) -> None:
    put(tmp_path)
    with registry_over(tmp_path).leased("m", 1) as loaded:
        model = loaded.for_run(StopToken())
        assert list(model.graphs) == ["a", "b", "c"]
        for name, factor in GRAPHS.items():
            made = model.graphs[name].run({"x": np.ones(3, np.float32)})
            np.testing.assert_array_equal(made["y"], factor * np.ones(3))
        assert model.graphs["a"] is model, "the first is the main one"
        assert list(model.graphs["b"].graphs) == ["a", "b", "c"]


def test_model_yaml_says_which_graph_is_the_main_one(tmp_path: Path) -> None:
    put(tmp_path, graph="c.onnx")
    loaded = registry_over(tmp_path).load("m", 1)
    assert loaded.for_run(StopToken()).run({"x": np.ones(1, np.float32)})["y"] == [5]
    assert len({id(session) for session in sessions(loaded)}) == 3


def test_one_graph_is_called_model_whatever_its_file(tmp_path: Path) -> None:
    for name, manifest in {"one": {"graph": "net.onnx", "task": "echo"}, "lone": {}}.items():
        folder = put(tmp_path, name, {"net": scale_graph()}, **manifest)
        model = LoadedModel.opened(version_of(folder), SETUP).for_run(StopToken())
        assert list(model.graphs) == ["model"]
        assert model.graphs["model"] is model


def test_other_tasks_have_one_graph_however_many_lie_beside_it(tmp_path: Path) -> None:
    version = version_of(put(tmp_path, graph="b.onnx", task="echo"))
    assert list(version.graphs) == ["model"]
    assert version.graphs["model"].name == "b.onnx"


def test_a_graph_that_is_named_in_a_folder_of_its_own_is_alone(tmp_path: Path) -> None:
    folder = put(tmp_path, graph="apart/net.onnx")
    (folder / "1" / "apart").mkdir()
    (folder / "1" / "apart" / "net.onnx").write_bytes(scale_graph(7))
    model = registry_over(tmp_path).load("m", 1).for_run(StopToken())
    assert list(model.graphs) == ["model"]
    assert model.run({"x": np.ones(1, np.float32)})["y"] == [7]


def test_what_is_derived_is_of_each_graph(tmp_path: Path) -> None:
    put(tmp_path)
    model = registry_over(tmp_path).load("m", 1).for_run(StopToken())

    def factor(graph: Any) -> float:
        return float(graph.run({"x": np.ones(1, np.float32)})["y"][0])

    assert [graph.derived(factor) for graph in model.graphs.values()] == [2, 3, 5]


def test_all_go_together(tmp_path: Path) -> None:
    put(tmp_path)
    registry = registry_over(tmp_path)
    with registry.leased("m", 1) as loaded:
        registry.unload("m/1")
        assert closed(loaded) == [False] * 3, "it is still used"
    assert closed(loaded) == [True] * 3
    assert registry.states()["m/1"]["state"] == "UNAVAILABLE"


def test_all_are_evicted_together(tmp_path: Path) -> None:
    put(tmp_path, "m")
    put(tmp_path, "n")
    registry = registry_over(tmp_path, ModelRoom(most_models=1))
    first = registry.load("m", 1)
    registry.load("n", 1)
    assert closed(first) == [True] * 3
    assert registry.loaded == ["n/1"], "three graphs are one model"


def test_all_are_counted_and_shrunk(tmp_path: Path) -> None:
    folder = put(tmp_path)
    version = version_of(folder)
    assert version.size_bytes == sum(file.stat().st_size for file in (folder / "1").iterdir())
    registry = registry_over(tmp_path)
    loaded = registry.load("m", 1)
    for graph in loaded.for_run(StopToken()).graphs.values():
        graph.run({"x": np.ones(4, np.float32)})
    assert not any(session._fresh for session in sessions(loaded))
    registry.shrink()
    assert all(session._fresh for session in sessions(loaded))


def test_a_device_that_any_graph_has_lost_is_lost(tmp_path: Path) -> None:
    put(tmp_path)
    registry = registry_over(tmp_path)
    loaded = registry.load("m", 1)
    assert not registry.device_lost
    loaded.graphs["c"].session.device_lost = True
    assert registry.device_lost
    registry.unload("m/1")
    assert registry.device_lost


def test_a_graph_that_fell_back_is_told(tmp_path: Path) -> None:
    put(tmp_path)
    registry = registry_over(tmp_path)
    loaded = registry.load("m", 1)
    loaded.graphs["b"].session.fallback = "asked for one, using another"
    assert registry.states()["m/1"]["fallback"] == "asked for one, using another"


def _open_sessions() -> int:
    gc.collect()
    return sum(isinstance(one, Session) and getattr(one, "_session", None) is not None for one in gc.get_objects())


@pytest.mark.parametrize("broken", [b"no graph at all", pointing_to("gone.data")], ids=["garbage", "no data"])
def test_one_broken_graph_fails_the_load_by_name_and_leaves_nothing(tmp_path: Path, broken: bytes) -> None:
    graphs = {"a": scale_graph(), "b": scale_graph(), "z": broken}
    put(tmp_path, graphs=graphs)
    registry = registry_over(tmp_path)
    before = _open_sessions()
    with pytest.raises(ModelError, match=r"z\.onnx") as caught:
        registry.load("m", 1)
    assert caught.value.code == "model-unloadable"
    # What the exception's frames hold was closed, too.
    assert _open_sessions() == before
    assert registry.loaded == []
    assert "z.onnx" in registry.states()["m/1"]["reason"]


def test_external_data_of_each_graph_is_read(tmp_path: Path) -> None:
    folder = put(tmp_path)
    with_external_data(folder / "1", "d.onnx", "d.data", size=4)
    loaded = registry_over(tmp_path).load("m", 1)
    made = loaded.for_run(StopToken()).graphs["d"].run({"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(made["y"], 3 * np.ones(4))


def test_a_stop_ends_the_run_of_any_graph(tmp_path: Path) -> None:
    put(tmp_path)
    stop = StopToken()
    model = registry_over(tmp_path).load("m", 1).for_run(stop)
    graphs = model.graphs
    stop.set(StopReason.CANCELLED)
    for graph in graphs.values():
        with pytest.raises(RunStopped):
            graph.run({"x": np.ones(1, np.float32)})


def test_a_warm_up_runs_each_graph(tmp_path: Path) -> None:
    put(tmp_path, warmup=[{"count": 2, "batch_size": 3}])
    loaded = registry_over(tmp_path, after_load=ready).load("m", 1)
    assert not any(session._fresh for session in sessions(loaded))


def test_a_warm_up_that_names_tensors_is_refused(tmp_path: Path) -> None:
    inputs = {"x": {"datatype": "FP32", "shape": [3]}}
    put(tmp_path, warmup=[{"name": "w", "inputs": inputs}])
    with pytest.raises(ModelError, match="do not say of which graph they are") as caught:
        registry_over(tmp_path, after_load=ready).load("m", 1)
    assert caught.value.code == "warmup-invalid"


def test_there_is_no_raw_inference_on_several_graphs(tmp_path: Path) -> None:
    version = version_of(put(tmp_path))
    with pytest.raises(ModelError, match="raw inference is for models of one") as caught:
        _ = version.signature
    assert caught.value.code == "model-tensors"
    assert (version.card().inputs, version.card().outputs) == ([], [])


def test_threads_of_several_graphs_do_not_spin(tmp_path: Path) -> None:
    setups = Setups(DEVICE)
    several, one = version_of(put(tmp_path)), version_of(put(tmp_path, "one", {"model": scale_graph()}))
    assert (setups(several).spin, setups(one).spin) == (False, True)


def test_which_way_is_fastest_is_not_measured_for_several_graphs(tmp_path: Path) -> None:
    setup = Setups(DEVICE, ["auto"])(version_of(put(tmp_path)))
    assert list(setup.providers) == [CPU_PROVIDER]
    assert setup.why.startswith("auto: not measured")


def test_quantizing_several_graphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="is 3 graphs") as caught:
        quantize(put(tmp_path), Precision.FP16)
    assert caught.value.code == "several-graphs"


def test_check_shows_the_tensors_of_each_graph(tmp_path: Path) -> None:
    (found,) = inspect(SHIPPED).versions
    assert "vision_encoder: pixel_values FP32 [-1, 3, 64, 64]" in found.inputs
    assert "text_encoder: question_embeds FP32 [-1, -1, 96]" in found.outputs


def _custom() -> bytes:
    made = onnx.load_from_string(scale_graph())
    made.graph.node[0].domain = "evil"
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("broken", "code"),
    [(_custom(), "custom-operator"), (pointing_to("gone.data"), "external-data-invalid"), (b"?", "graph-unreadable")],
)
def test_a_scan_judges_every_graph(tmp_path: Path, broken: bytes, code: str) -> None:
    folder = put(tmp_path)
    assert set(scan_folder(folder, 1 << 20)["graphs"]) == {"1/a.onnx", "1/b.onnx", "1/c.onnx"}
    (folder / "1" / "z.onnx").write_bytes(broken)
    with pytest.raises(ModelError) as caught:
        scan_folder(folder, 1 << 20)
    assert caught.value.code == code


def laid_out(tmp_path: Path, came: Path, **wish: Any) -> set[str]:
    folder = tmp_path / "laid out"
    lay_out(came, folder, Wish(2, "from a test", **wish))
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx")}


@pytest.mark.parametrize("inner", ["", "1", "onnx", "wrapped/1"])
def test_an_import_keeps_all_graphs_of_a_folder(tmp_path: Path, inner: str) -> None:
    came = tmp_path / "came"
    (came / inner).mkdir(parents=True)
    for graph in put(tmp_path).glob("1/*.onnx"):
        shutil.move(graph, came / inner / graph.name)
    assert laid_out(tmp_path, came, manifest={"task": "visual-qa"}) == {"2/a.onnx", "2/b.onnx", "2/c.onnx"}


def test_an_import_of_graphs_in_two_folders_is_ambiguous(tmp_path: Path) -> None:
    came = tmp_path / "came"
    shutil.copytree(put(tmp_path) / "1", came / "x")
    shutil.copytree(came / "x", came / "y")
    with pytest.raises(ModelError) as caught:
        laid_out(tmp_path, came, manifest={"task": "visual-qa"})
    assert caught.value.code == "graph-ambiguous"


def test_an_import_for_a_task_of_one_graph_stays_ambiguous(tmp_path: Path) -> None:
    came = tmp_path / "came"
    shutil.copytree(put(tmp_path) / "1", came)
    with pytest.raises(ModelError) as caught:
        laid_out(tmp_path, came, manifest={"task": "echo"})
    assert caught.value.code == "graph-ambiguous"


def test_a_model_of_several_graphs_answers_through_the_registry(tmp_path: Path) -> None:
    exported(tmp_path, "vision_encoder", "text_encoder", "text_decoder", "text_decoder_with_past")
    registry = registry_over(tmp_path, after_load=ready)
    with registry.leased("shapes", 1) as loaded:
        assert ask(loaded.for_run(StopToken()), question="what is the red shape?")["answer"] == "triangle"


def test_a_gpu_worker_serves_no_model_of_which_one_graph_is_on_the_cpu(tmp_path: Path) -> None:
    """No GPU is here: sessions say that they run on one, all but the last of them."""
    gpu = SessionSetup(["CUDAExecutionProvider", CPU_PROVIDER], intra_op_threads=1, spin=False)
    loaded = LoadedModel.opened(version_of(put(tmp_path)), SETUP)
    object.__setattr__(loaded, "setup", gpu)
    loader = Loader(lambda version: gpu, HostMemory(1 << 30, "a test"), None)
    for session in sessions(loaded):
        session._provider = "CUDAExecutionProvider"
    loader._refuse_silent_cpu(loaded)
    loaded.graphs["c"].session._provider = CPU_PROVIDER
    with pytest.raises(NoCapableWorker) as caught:
        loader._refuse_silent_cpu(loaded)
    assert caught.value.code == "gpu-unusable"
    assert loader.fell_back()
