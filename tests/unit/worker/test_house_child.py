"""The process in which strangers' graphs are parsed and tried: whatever becomes of it, the worker is told in words."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fleet.errors import DependencyError, FleetError, ModelError, RunStopped
from tests.support.graphs import pointing_to, with_external_data
from worker.house.child import run_in_child


def references(graph: Path, check: Callable[[], object] = lambda: None, limit_s: float = 60.0) -> list[str]:
    request = {"graph": str(graph)}
    answer = run_in_child("references", request, limit_s=limit_s, most_bytes=1 << 32, check=check)
    return list(answer["files"])


def killing(number: signal.Signals) -> Callable[[], None]:
    def check() -> None:
        for child in psutil.Process().children():
            if "worker.house.child" in child.cmdline():
                child.send_signal(number)

    return check


def test_it_answers(tmp_path: Path) -> None:
    assert references(with_external_data(tmp_path)) == ["model.onnx.data"]


def test_its_errors_arrive_as_they_were_raised(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(pointing_to("../outside"))
    with pytest.raises(ModelError, match=r"\.\./outside") as caught:
        references(tmp_path / "model.onnx")
    assert caught.value.code == "external-data-invalid"


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(signal.SIGSEGV, ModelError, "model-crashes"), (signal.SIGKILL, DependencyError, "check-killed")],
)
def test_a_crash_is_the_models_and_a_kill_is_not(
    tmp_path: Path, number: signal.Signals, kind: type[FleetError], code: str
) -> None:
    graph = with_external_data(tmp_path)
    with pytest.raises(kind) as caught:
        references(graph, killing(number))
    assert caught.value.code == code


def test_it_ends_with_whoever_asked_and_when_it_takes_too_long(tmp_path: Path) -> None:
    graph = with_external_data(tmp_path)

    def stopped() -> None:
        raise RunStopped("drained", code="drained")

    with pytest.raises(RunStopped):
        references(graph, stopped)
    with pytest.raises(ModelError) as caught:
        references(graph, limit_s=0.0)
    assert caught.value.code == "check-timed-out"
    assert not [child for child in psutil.Process().children() if "worker.house.child" in " ".join(child.cmdline())]
