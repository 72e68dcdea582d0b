"""What a run of a model takes: guessed, learned from runs, or weighed in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from fleet.errors import ModelError, RunStopped
from fleet.settings import CPU_PROVIDER
from worker.engine.appetite import Appetite
from worker.engine.registry import Registry
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.engine.weighing import CHILD_BYTES, weigh
from worker.memory.budget import Budget, Holding
from worker.memory.limit import GIB, MIB, Limit, LimitedBy, held_bytes, used_bytes
from worker.memory.share import Memory
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks import find_tasks

MODELS = Path(__file__).resolve().parents[3] / "models"
GRAPH = MODELS / "brain-extraction" / "1" / "model.onnx"
SETUP = SessionSetup([CPU_PROVIDER], intra_op_threads=1)
BASE = CHILD_BYTES + 16 * MIB
SHAPE = (1, 1, 64, 64, 64)
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")


PREPARED = """
import os, pathlib, sys, threading, time
import numpy as np
from worker.engine.session import Session, SessionSetup
from worker.memory.limit import held_bytes
from worker.memory.trim import trim
from worker.stop import StopToken

SHAPE = (1, 1, 64, 64, 64)

def opened():
    return Session(pathlib.Path(sys.argv[1]), SessionSetup(["CPUExecutionProvider"], intra_op_threads=1))

def run_thrice(session):
    for _ in range(3):
        session.run({session.inputs[0].name: np.zeros(SHAPE, np.float32)}, StopToken())

def learned(session):
    return session.appetite.bytes_for({session.inputs[0].name: SHAPE})
"""
RUN_THRICE = """
session = opened()
trim()
before = held_bytes(os.getpid())
run_thrice(session)
print(held_bytes(os.getpid()) - before)
"""
SHRUNK_MEANWHILE = """
usual, session = opened(), opened()
run_thrice(usual)
thread = threading.Thread(target=run_thrice, args=(session,))
thread.start()
while thread.is_alive():
    session.shrink()
    time.sleep(0.002)
print(learned(session), learned(usual))
"""


def told_by(script: str) -> list[int]:
    """Numbers of its last line, said by a fresh process: in this one, earlier tests have left memory to run in."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + script, str(GRAPH)], stdout=subprocess.PIPE, check=True, text=True
    )
    return [int(word) for word in done.stdout.splitlines()[-1].split()]


def no_check() -> None:
    pass


def run_thrice(session: Session) -> None:
    for _ in range(3):
        run(session)


@pytest.fixture
def session() -> Session:
    return Session(GRAPH, SETUP)


def shapes_of(session: Session, shape: tuple[int, ...] = SHAPE) -> dict[str, tuple[int, ...]]:
    return {session.inputs[0].name: shape}


def run(session: Session, shape: tuple[int, ...] = SHAPE) -> None:
    session.run({session.inputs[0].name: np.zeros(shape, np.float32)}, StopToken())


def test_a_guess_is_generous_and_a_known_size_is_scaled() -> None:
    appetite = Appetite()
    shapes = {"x": (1, 1, 100, 100, 100)}
    assert not appetite.knows(shapes)
    assert appetite.bytes_for(shapes) > 4 * 10**9
    appetite.learn(10**6, 400 * MIB, 50 * MIB)
    assert 450 * MIB < appetite.bytes_for(shapes) < 520 * MIB, "the next run may need another output's room"
    assert appetite.is_curious(10**6)
    appetite.learn(10**6, 100 * MIB, 50 * MIB, fresh=False)
    appetite.learn(10**6, 450 * MIB, 50 * MIB, fresh=True)
    assert not appetite.is_curious(10**6)
    assert appetite.knows(shapes)
    assert 500 * MIB < appetite.bytes_for(shapes) < 650 * MIB
    half = appetite.bytes_for({"x": (1, 1, 100, 100, 50)})
    assert 250 * MIB < half < 350 * MIB
    assert not appetite.knows({"x": (1, 1, 300, 100, 100)}), "too far from what was seen"
    appetite.learn(10**5, 400 * MIB, 0)
    assert appetite.bytes_for({"x": (1, 1, 100, 100, 50)}) == half, "the largest run tells most"


def test_a_device_with_memory_of_its_own_leaves_little_to_guess_here() -> None:
    assert Appetite(on_device=True).bytes_for({"x": (1, 1, 128, 128, 128)}) < GIB


def test_a_session_learns_from_its_first_large_run(session: Session) -> None:
    shapes = shapes_of(session)
    guess = session.appetite.bytes_for(shapes)
    run(session, (1, 1, 16, 16, 16))
    assert not session.appetite.knows(shapes)
    before = held_bytes(os.getpid())
    for _ in range(4):
        run(session)
    taken = held_bytes(os.getpid()) - before
    assert session.appetite.knows(shapes)
    assert taken < session.appetite.bytes_for(shapes) < guess / 5


def test_a_run_beside_others_teaches_nothing() -> None:
    beside = Session(GRAPH, SETUP, alone=lambda: False)
    run(beside)
    assert not beside.appetite.knows(shapes_of(beside))


def test_what_a_session_keeps_is_given_back_and_it_still_runs(session: Session) -> None:
    run(session)
    kept = held_bytes(os.getpid())
    session.shrink()
    assert kept - held_bytes(os.getpid()) > 24 * MIB
    run(session)


def test_a_session_that_is_shrunk_while_it_runs_still_learns_what_it_took() -> None:
    learned, expected = told_by(SHRUNK_MEANWHILE)
    assert learned == pytest.approx(expected, rel=0.4)


def test_weighing_finds_what_a_run_really_takes(session: Session) -> None:
    weighed = weigh(
        GRAPH, SETUP, session.inputs, shapes_of(session), base_bytes=BASE, most_bytes=2 * GIB, check=no_check
    )
    (taken,) = told_by(RUN_THRICE)
    assert weighed == pytest.approx(taken, rel=0.4)
    assert children() == []


@pytest.mark.parametrize("most", [-1, 0, 20 * MIB])
def test_weighing_never_takes_more_than_it_may(session: Session, most: int) -> None:
    shapes = shapes_of(session)
    found = weigh(GRAPH, SETUP, session.inputs, shapes, base_bytes=BASE, most_bytes=most, check=no_check)
    assert found is None
    assert children() == []


def test_weighing_says_when_the_model_fails_on_such_inputs(session: Session) -> None:
    with pytest.raises(ModelError) as caught:
        weigh(
            GRAPH,
            SETUP,
            session.inputs,
            shapes_of(session, (1, 1, 65, 65, 65)),
            base_bytes=BASE,
            most_bytes=GIB,
            check=no_check,
        )
    assert caught.value.code.startswith("inference-")


def test_weighing_ends_when_the_run_is_to_stop(session: Session) -> None:
    def stop() -> None:
        raise RunStopped("asked to stop", code="cancelled")

    with pytest.raises(RunStopped):
        weigh(GRAPH, SETUP, session.inputs, shapes_of(session), base_bytes=BASE, most_bytes=GIB, check=stop)
    assert children() == []


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "worker.engine.weighing" in child.cmdline()]


@pytest.fixture
def budget() -> Budget:
    return Budget(Limit(used_bytes() + 2 * GIB, LimitedBy.SETTING), used=used_bytes, free=lambda: 8 * GIB)


@pytest.fixture
def progress(budget: Budget, tmp_path: Path) -> JobProgress:
    progress = JobProgress(StopToken())
    progress.share = Memory(budget, tmp_path, scratch_in_memory=False).share(lambda seconds: None)
    return progress


def test_a_model_is_weighed_once_with_the_budget_to_itself(budget: Budget, progress: JobProgress) -> None:
    registry = Registry(Repository(MODELS, find_tasks()), lambda version: SETUP, budget)
    model = registry.load("brain-extraction", 1, progress).for_run(StopToken())
    assert budget.granted_bytes == 0, "what the load asked for has become the process's own"
    shapes = {model.inputs[0].name: SHAPE}
    guess = model.run_bytes(shapes)
    weighed = model.run_bytes(shapes, weigh_with=progress)
    assert weighed < guess / 5
    assert model.run_bytes(shapes) == weighed == model.run_bytes(shapes, weigh_with=progress)
    assert budget.granted_bytes == 0


def test_a_model_that_does_not_fit_is_not_loaded(tmp_path: Path) -> None:
    tight = Budget(Limit(used_bytes() + 193 * MIB, LimitedBy.SETTING), used=used_bytes, free=lambda: 8 * GIB)
    progress = JobProgress(StopToken())
    progress.share = Memory(tight, tmp_path, scratch_in_memory=False).share(lambda seconds: None)
    registry = Registry(Repository(MODELS, find_tasks()), lambda version: SETUP, tight)
    with pytest.raises(ModelError, match="loading brain-extraction/1 takes an estimated") as caught:
        registry.load("brain-extraction", 1, progress)
    assert caught.value.code == "memory-error"
    assert registry.loaded == []


def test_the_registry_gives_back_what_all_its_models_keep(budget: Budget) -> None:
    registry = Registry(Repository(MODELS, find_tasks()), lambda version: SETUP, budget)
    budget.give_back = registry.shrink
    loaded = registry.load("brain-extraction", 1)
    run(loaded.session)
    kept = held_bytes(os.getpid())
    mine = Holding()
    assert budget.reserve(mine, GIB, "a volume")
    budget.release(mine)
    run(loaded.session)
    kept = held_bytes(os.getpid())
    budget.reserve(Holding(), budget.most_bytes - 8 * MIB, "another")
    assert kept - held_bytes(os.getpid()) > 24 * MIB
