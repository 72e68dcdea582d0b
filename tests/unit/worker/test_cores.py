"""A long run that is alone in its process gets all cores; short ones, and those beside others, do not."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.contracts import Pool
from fleet.errors import ModelError, RunStopped
from fleet.settings import CPU_PROVIDER
from tests.support.small_graphs import slow_graph
from worker.device import Device
from worker.engine import session as session_module
from worker.engine.cores import MOST_TWICE_HELD_BYTES, Cores, Lengths
from worker.engine.providers import Providers
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.engine.setup import Setups
from worker.stop import StopReason, StopToken
from worker.tasks import find_tasks

SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1, lone_threads=2, spin=False)
FEEDS = {"x": np.random.default_rng(1).random((512, 512), np.float32)}


class Counted:
    """A session of ONNX Runtime whose runs are counted, those aside that only give memory back."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.runs = 0

    def run(self, *arguments: Any) -> Any:
        answer = self._session.run(*arguments)
        self.runs += 1
        return answer


class Never:
    """A session that is not to be used."""

    def run(self, *arguments: Any) -> Any:
        raise AssertionError("a run that is alone does not share threads")


def counted(session: Session) -> tuple[Counted, Counted]:
    """Its runs on threads that are shared, and those on all cores."""
    session._session, session._wide = Counted(session._session), Counted(session._wide)
    return session._session, session._wide


@pytest.fixture
def long(tmp_path: Path) -> Session:
    session = Session(slow_graph(tmp_path / "slow.onnx", nodes=40), SETUP, cores=Cores())
    session._lengths = Lengths()
    for _ in range(3):
        session._lengths.learn(FEEDS["x"].size, 1.0)
    return session


def test_a_run_is_alone_while_no_other_has_begun() -> None:
    cores = Cores()
    with cores.taken() as first, cores.taken() as second:
        assert (first, second) == (True, False)
    with cores.taken() as again:
        assert again


def test_runs_are_long_by_the_fastest_of_their_size() -> None:
    lengths = Lengths()
    for _ in range(2):
        lengths.learn(100, 0.030)
    assert not lengths.are_long(100), "two runs say too little"
    lengths.learn(100, 9.0)
    assert lengths.are_long(100)
    for _ in range(3):
        lengths.learn(1000, 0.040)
    assert lengths.are_long(100), "what a larger run takes says nothing of it"
    lengths.learn(100, 0.010)
    assert not lengths.are_long(100)


def test_a_run_that_ended_early_is_forgotten() -> None:
    lengths = Lengths()
    lengths.learn(100, 0.010)
    for _ in range(50):
        lengths.learn(100, 0.030)
    assert lengths.are_long(100)


def test_a_long_run_that_is_alone_has_all_cores_and_the_same_answer(long: Session) -> None:
    shared, all_cores = counted(long)
    (alone,) = long.run(FEEDS, StopToken()).values()
    assert (shared.runs, all_cores.runs) == (0, 1)
    with long._cores.taken():
        (beside,) = long.run(FEEDS, StopToken()).values()
    assert (shared.runs, all_cores.runs) == (1, 1)
    np.testing.assert_array_equal(alone, beside)


def test_a_short_run_is_not_worth_waking_threads_for(tmp_path: Path) -> None:
    session = Session(slow_graph(tmp_path / "short.onnx", nodes=1, size=8), SETUP, cores=Cores())
    shared, all_cores = counted(session)
    for _ in range(6):
        session.run({"x": np.ones((8, 8), np.float32)}, StopToken())
    assert (shared.runs, all_cores.runs) == (6, 0)


def test_a_run_on_all_cores_stops_as_any_other(tmp_path: Path) -> None:
    session = Session(slow_graph(tmp_path / "slow.onnx", nodes=4000), SETUP, cores=Cores())
    for _ in range(3):
        session._lengths.learn(FEEDS["x"].size, 1.0)
    session._session = Never()
    stop = StopToken()
    threading.Timer(0.3, stop.set, [StopReason.CANCELLED]).start()
    with pytest.raises(RunStopped):
        session.run(FEEDS, stop)
    session.close()
    assert (session._session, session._wide) == (None, None)


def test_who_has_as_many_threads_anyway_holds_the_weights_once(tmp_path: Path) -> None:
    path = slow_graph(tmp_path / "slow.onnx", nodes=2)
    assert Session(path, SETUP)._wide is None
    assert Session(path, SessionSetup([CPU_PROVIDER], intra_op_threads=2, lone_threads=2), cores=Cores())._wide is None
    assert Session(path, SessionSetup([CPU_PROVIDER], lone_threads=2), cores=Cores())._wide is None


@pytest.mark.parametrize(("said", "threads"), [("", 2), ("onnx: {intra_op_threads: 1}", 0)])
def test_an_author_who_names_threads_gets_those(tmp_path: Path, said: str, threads: int) -> None:
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    slow_graph(folder / "1" / "model.onnx", nodes=2)
    (folder / "model.yaml").write_text(f"task: tensors\n{said}\n")
    device = Device("a device", Pool.CPU, Providers([], [], [CPU_PROVIDER]), 16, intra_op_threads=1, lone_threads=2)
    version = Repository(tmp_path, find_tasks()).get("m", 1)
    assert Setups(device)(version).lone_threads == threads
    assert version.size_bytes < MOST_TWICE_HELD_BYTES


def test_without_memory_for_a_second_time_the_model_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = slow_graph(tmp_path / "slow.onnx", nodes=2), session_module._opened

    def scarce(path: Path, setup: SessionSetup) -> Any:
        if setup.intra_op_threads > 1:
            raise ModelError("bad_alloc", code="model-unloadable")
        return opened(path, setup)

    monkeypatch.setattr(session_module, "_opened", scarce)
    session = Session(path, SETUP, cores=Cores())
    assert session._wide is None
    assert session.run(FEEDS, StopToken())["y"].shape == (512, 512)
