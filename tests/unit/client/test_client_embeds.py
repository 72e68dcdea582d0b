"""Vectors of texts through the client: a few at once, and a file as one job."""

import json
from pathlib import Path

import numpy as np
import pytest

from fleet_client import Client, Embeddings, JobFailed, TransferFailed
from tests.support.embedded import VECTORS, ended, npy
from tests.support.protocol_server import JOB_ID, ProtocolServer, decoded


def test_a_few_texts_become_vectors_in_one_call(fleet: Client, server: ProtocolServer) -> None:
    server.states = [ended(server)]
    found = fleet.embed(["red", "green", "blue"], model="m@best", kind="query", dimensions=4)
    assert (len(found), found.dimensions, found.total_tokens, found.truncated) == (3, 4, 9, 1)
    np.testing.assert_array_equal(np.array(list(found), "<f4"), VECTORS)
    np.testing.assert_array_equal(np.array(found[-1], "<f4"), VECTORS[2])
    with pytest.raises(IndexError):
        found[3]
    (body,) = server.submitted.values()
    assert json.loads(decoded(body["inputs"][0])) == ["red", "green", "blue"]
    assert (body["task"], body["model"], body["params"]) == (
        "text-embedding",
        "m@best",
        {"kind": "query", "dimensions": 4},
    )
    assert "lane" not in body
    assert len(server.api.seen) == 1, "a short job is answered at once"


def test_one_text_is_a_list_of_one_and_token_ids_are_as_they_are(fleet: Client, server: ProtocolServer) -> None:
    server.states = [ended(server)]
    fleet.embed("red", model="m")
    fleet.embed([[1, 2], [3]], model="m")
    assert [json.loads(decoded(body["inputs"][0])) for body in server.submitted.values()] == [["red"], [[1, 2], [3]]]


def test_vectors_that_are_an_artifact_are_fetched(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [ended(server, npy(tmp_path))]
    np.testing.assert_array_equal(np.array(list(fleet.embed("red", model="m")), "<f4"), VECTORS)


def test_a_file_becomes_a_bulk_job_whose_vectors_are_saved(
    fleet: Client, server: ProtocolServer, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('"red"\n"green"\n"blue"\n')
    server.states = [server.job(), ended(server, npy(tmp_path))]
    job = fleet.embed_file(texts, model="m", first=1, count=2, truncate="end", labels={"of": "me"})
    path = fleet.save_embeddings(job, tmp_path / "vectors.npy")
    np.testing.assert_array_equal(np.load(path), VECTORS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["made.npy", "texts.jsonl", "vectors.npy"]
    (body,) = server.submitted.values()
    assert (body["lane"], body["execution_timeout_s"], body["labels"]) == ("bulk", 86400.0, {"of": "me"})
    assert body["params"] == {"truncate": "end", "first": 1, "count": 2}
    assert (body["inputs"][0]["media_type"], body["inputs"][0]["name"]) == ("application/jsonl", "texts.jsonl")
    np.testing.assert_array_equal(np.array(list(fleet.embeddings(job)), "<f4"), VECTORS)


@pytest.mark.parametrize("count", [1, 3, 100, 12345])
def test_vectors_in_the_result_are_saved_as_numpy_would(tmp_path: Path, count: int) -> None:
    vectors = np.arange(count * 3, dtype="<f4").reshape(count, 3)
    found = Embeddings(3, normalized=False, total_tokens=0, truncated=0, data=vectors.tobytes())
    np.save(tmp_path / "theirs.npy", vectors)
    assert found.save(tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_small_file_is_saved_as_well(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [ended(server)]
    np.testing.assert_array_equal(np.load(fleet.save_embeddings(fleet.job(JOB_ID), tmp_path / "v.npy")), VECTORS)


def test_some_of_the_vectors_are_a_slice() -> None:
    found = Embeddings(2, normalized=False, total_tokens=0, truncated=0, data=np.arange(6, dtype="<f4").tobytes())
    assert found[1:] == [[2.0, 3.0], [4.0, 5.0]]
    assert found[::-2] == [[4.0, 5.0], [0.0, 1.0]]
    assert found[3:] == []


def test_vectors_whose_artifact_the_job_does_not_have_are_missed_by_name(fleet: Client, server: ProtocolServer) -> None:
    result = {"count": 3, "dimensions": 4, "artifact": "embeddings.npy", "offset": 128}
    server.states = [server.job("succeeded", result=result)]
    with pytest.raises(TransferFailed, match=r"has no artifact 'embeddings\.npy'"):
        fleet.embed("red", model="m")


def test_too_few_bytes_are_no_vectors(fleet: Client, server: ProtocolServer) -> None:
    server.states = [ended(server, count=4)]
    with pytest.raises(TransferFailed, match="48 bytes are not 4 vectors of 4"):
        fleet.embed("red", model="m")


def test_a_job_of_another_task_has_no_vectors(fleet: Client, server: ProtocolServer, tmp_path: Path) -> None:
    server.states = [server.job("succeeded", result={"labels": []})]
    with pytest.raises(ValueError, match="segmentation"):
        fleet.save_embeddings(fleet.job(JOB_ID), tmp_path / "v.npy")


def test_what_is_wrong_with_a_text_is_raised(fleet: Client, server: ProtocolServer) -> None:
    fault = {"code": "text-too-long", "message": "text 3 has 999 tokens", "retryable": False, "facts": {"item": 3}}
    server.states = [server.job("failed", error=fault)]
    with pytest.raises(JobFailed, match="text 3 has 999 tokens") as caught:
        fleet.embed("red", model="m")
    assert caught.value.job.error is not None
    assert (caught.value.job.error.code, caught.value.job.error.facts) == ("text-too-long", {"item": 3})
