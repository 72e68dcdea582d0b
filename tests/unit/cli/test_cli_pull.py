"""`fleet models pull`: what it asks the server for."""

from pathlib import Path

import pytest

from tests.support.protocol_server import ProtocolServer
from tests.unit.cli.conftest import Fleet


@pytest.mark.parametrize(
    ("place", "which"),
    [
        ("hf:org/shapes", {}),
        ("hf:org/shapes@v1#a.onnx", {"revision": "v1", "onnx": "a.onnx"}),
        ("hf:org/shapes#onnx/a.onnx,onnx/b.onnx", {"graphs": ["onnx/a.onnx", "onnx/b.onnx"]}),
    ],
)
def test_one_or_several_graphs_are_asked_for_with_their_task(
    fleet: Fleet, server: ProtocolServer, tmp_path: Path, place: str, which: dict[str, object]
) -> None:
    (tmp_path / "model.yaml").write_text("task: visual-qa\npipeline: {max_new_tokens: 5}\n")
    fleet("models", "pull", place, "--manifest", tmp_path / "model.yaml", "--no-wait")
    (asked,) = server.api.requests("POST", "/api/v1/models/hub")
    manifest = {"task": "visual-qa", "pipeline": {"max_new_tokens": 5}}
    arrival = {"name": "shapes", "manifest": manifest, "aliases": [], "deploy": False}
    assert asked.json == {"repository": "org/shapes", **arrival, **which}


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "day: 2026-01-01", ""])
def test_a_manifest_that_holds_no_fields_is_refused_here(
    fleet: Fleet, server: ProtocolServer, tmp_path: Path, content: str
) -> None:
    (tmp_path / "model.yaml").write_text(content)
    said = fleet("models", "pull", "hf:org/shapes", "--manifest", tmp_path / "model.yaml")
    assert (said.code, "--manifest" in said.err) == (2, True), said.err
    assert not server.api.requests("POST")
