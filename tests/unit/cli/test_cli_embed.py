"""`fleet embed`: what it prints, what it sends, what it leaves on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.embedded import VECTORS, ended, npy
from tests.support.protocol_server import JOB_ID, ProtocolServer
from tests.unit.cli.conftest import Fleet


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text('"red"\n"green"\n"blue"\n')
    return path


def embed(fleet: Fleet, *more: object) -> Any:
    return fleet("embed", "--model", "m", *more)


def test_a_text_is_answered_with_its_dimensions(fleet: Fleet, server: ProtocolServer) -> None:
    server.states = [ended(server)]
    said = embed(fleet, "a red cat", "green", "blue")
    assert said.code == 0
    assert said.out.splitlines() == [
        "a red cat: 0.0000 0.1429 0.2857 0.4286",
        "green: 0.5714 0.7143 0.8571 1.0000",
        "blue: 1.1429 1.2857 1.4286 1.5714",
        "3 vectors of 4 numbers, 9 tokens",
    ]


def test_json_has_the_vectors_of_texts(fleet: Fleet, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [ended(server)]
    said = embed(fleet, "red", "green", "blue", "--json", "-o", tmp_path / "v.npy")
    np.testing.assert_array_equal(np.array(said.json["vectors"], "<f4"), VECTORS)
    assert (said.json["dimensions"], said.json["file"]) == (4, str(tmp_path / "v.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), VECTORS)


def test_a_file_is_followed_and_its_vectors_are_saved(
    fleet: Fleet, server: ProtocolServer, texts: Path, tmp_path: Path
) -> None:
    server.states = [server.job(), server.job("running", stage="infer"), ended(server, npy(tmp_path))]
    said = embed(fleet, texts, "-o", tmp_path / "v.npy", "--kind", "passage", "--first", 0, "--priority", "low")
    assert said.code == 0
    assert said.out == f"3 vectors of 4 numbers, 9 tokens: {tmp_path / 'v.npy'}\n"
    assert said.err.splitlines() == [f"{JOB_ID} {step}" for step in ("queued", "running: infer", "succeeded")]
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), VECTORS)
    (body,) = server.submitted.values()
    assert (body["lane"], body["priority"], body["params"]) == ("bulk", "low", {"kind": "passage", "first": 0})


def test_without_waiting_the_id_is_printed(fleet: Fleet, server: ProtocolServer, texts: Path) -> None:
    server.states = [server.job()]
    said = embed(fleet, texts, "--no-wait", "--idempotency-key", "mine", "--label", "of=me", "--keep", "2h")
    assert (said.code, said.out) == (0, f"{JOB_ID}\n")
    body = server.submitted["mine"]
    assert (body["labels"], body["retention_s"]) == ({"of": "me"}, 7200.0)


def test_json_of_a_file_is_the_job(fleet: Fleet, server: ProtocolServer, texts: Path, tmp_path: Path) -> None:
    server.states = [server.job(), ended(server, npy(tmp_path))]
    said = embed(fleet, texts, "-o", tmp_path / "v.npy", "--json")
    assert (said.json["id"], said.json["files"]) == (JOB_ID, [str(tmp_path / "v.npy")])


def test_a_job_that_fails_leaves_no_file(fleet: Fleet, server: ProtocolServer, texts: Path, tmp_path: Path) -> None:
    fault = {"code": "line-invalid", "message": "line 1 is empty", "retryable": False}
    server.states = [server.job(), server.job("failed", error=fault)]
    said = embed(fleet, texts, "-o", tmp_path / "v.npy")
    assert (said.code, said.out) == (1, "")
    assert "line 1 is empty" in said.err
    assert not (tmp_path / "v.npy").exists()


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        (["FILE"], 2, "where the vectors go"),
        (["FILE", "-o", "no-such-folder/v.npy"], 9, "no folder for"),
        (["missing.jsonl", "-o", "v.npy"], 2, "cannot be read"),
        (["a text", "--no-wait"], 2, "options of a file"),
        (["a text", "--first", "0"], 2, "options of a file"),
        (["FILE", "FILE", "--label", "of=me"], 2, "options of a file"),
        (["FILE", "FILE"], 2, "is a file: one that ends in .jsonl"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_sent(
    fleet: Fleet, server: ProtocolServer, texts: Path, more: list[str], code: int, word: str
) -> None:
    said = embed(fleet, *(str(texts) if argument == "FILE" else argument for argument in more))
    assert said.code == code
    assert word in " ".join(said.err.replace("│", " ").split())
    assert server.api.seen == []
