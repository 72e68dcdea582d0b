"""A job's record and the worker's state say which provider was asked for when another one runs a model."""

from pathlib import Path

import onnxruntime
import pytest

from fleet.contracts import JobState
from fleet.settings import CPU_PROVIDER, OPENVINO_PROVIDER, Settings
from tests.support.bench import opened_bench
from tests.support.clone import ROOT

pytestmark = pytest.mark.skipif(
    OPENVINO_PROVIDER in onnxruntime.get_available_providers(), reason="this build may well have what is asked for"
)


@pytest.mark.parametrize("asked", [f"onnx: {{providers: [{OPENVINO_PROVIDER}, {CPU_PROVIDER}]}}\n", ""])
def test_record_tells_what_was_asked_for_and_why_it_was_not_used(
    settings: Settings, tmp_path: Path, asked: str
) -> None:
    folder = tmp_path / "models" / "echo"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes((ROOT / "models" / "echo" / "1" / "model.onnx").read_bytes())
    (folder / "model.yaml").write_text(f"task: echo\n{asked}", "utf-8")
    with opened_bench(settings, tmp_path / "scratch", tmp_path / "models") as bench:
        job = bench.run(bench.submit())
        state = bench.process.keeper.states()["echo/1"]
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.ran_on is not None
    assert job.ran_on.provider == CPU_PROVIDER
    told = "asked for OpenVINOExecutionProvider, using CPUExecutionProvider: "
    assert job.ran_on.fallback.startswith(told if asked else "")
    assert bool(job.ran_on.fallback) is bool(asked)
    assert (state.provider, state.fallback) == (CPU_PROVIDER, job.ran_on.fallback)
