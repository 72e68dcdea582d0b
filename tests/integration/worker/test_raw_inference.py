"""Raw inference on a real worker: jobs of the task `tensors`, on a repository as a user of Triton brings it."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.contracts import InlineInput, Job, JobInput, JobState
from fleet.database import Database
from fleet.settings import Settings
from fleet.tensors import MEDIA_TYPE, OUTPUTS_NAME, Blob, DataType, pack, split
from tests.support.bench import Bench, opened_bench
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.triton_repository import identity, make_repository
from worker.contract import Array
from worker.media.tensors import array_of, blob_of

ROW = np.arange(16, dtype=np.int32)


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    models = make_repository(tmp_path / "models")
    identity(models / "large" / "1" / "model.onnx", dims=["n", "m"])
    with opened_bench(settings, tmp_path / "scratch", models) as opened:
        yield opened


def bundle(**arrays: Array) -> bytes:
    return pack([blob_of(name, array) for name, array in arrays.items()])


def infer(bench: Bench, model: str, content: bytes, outputs: list[dict[str, Any]] | None = None) -> Job:
    """As the front door does: small bundles lie in the row."""
    inline = InlineInput(data=base64.b64encode(content).decode(), media_type=MEDIA_TYPE)
    job = bench.submit(model=model, task="tensors", params={"outputs": outputs or []}, inputs=[JobInput(inline=inline)])
    return bench.run(job)


def answers(job: Job, stored: bytes | None = None) -> dict[str, Array]:
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result is not None
    data = base64.b64decode(job.result["data"]) if stored is None else stored
    return {blob.name: array_of(blob) for blob in split(job.result["outputs"], data)}


def test_small_tensors_come_back_in_the_record(bench: Bench) -> None:
    job = infer(bench, "add-sub", bundle(INPUT0=ROW[None], INPUT1=np.ones((1, 16), np.int32)))
    found = answers(job)
    np.testing.assert_array_equal(found["OUTPUT0"], [ROW + 1])
    np.testing.assert_array_equal(found["OUTPUT1"], [ROW - 1])
    assert list(found) == ["OUTPUT0", "OUTPUT1"]
    assert job.artifacts == []


def test_only_the_outputs_asked_for_come_back_and_in_that_order(bench: Bench) -> None:
    content = bundle(INPUT0=ROW[None], INPUT1=ROW[None])
    assert list(answers(infer(bench, "add-sub", content, [{"name": "OUTPUT1"}]))) == ["OUTPUT1"]
    both = [{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]
    assert list(answers(infer(bench, "add-sub", content, both))) == ["OUTPUT1", "OUTPUT0"]


def test_classes_come_back_ranked_and_named_for_each_row_of_the_batch(bench: Bench) -> None:
    pixels = np.float32([[[0.1, 0.7], [0.2, 0.9]], [[4, 3], [2, 1]]])
    found = answers(infer(bench, "scores", bundle(pixels=pixels), [{"name": "scores", "classification": 2}]))
    assert found["scores"].tolist() == [["0.900000:3:moose", "0.700000:1:dog"], ["4.000000:0:cat", "3.000000:1:dog"]]


def test_a_reshaped_input_is_taken_in_the_declared_shape(bench: Bench) -> None:
    pixels = np.float32([[[0.1, 0.7], [0.2, 0.9]]])
    np.testing.assert_array_equal(answers(infer(bench, "scores", bundle(pixels=pixels)))["scores"], [pixels.ravel()])
    assert infer(bench, "scores", bundle(pixels=pixels.reshape(1, 4))).error.code == "tensor-shape"  # type: ignore[union-attr]


@pytest.mark.parametrize("texts", [["ab", "", "é\0x"], []])
def test_strings_pass_both_ways(bench: Bench, texts: list[str]) -> None:
    found = answers(infer(bench, "strings", bundle(texts=np.array(texts, object))))
    assert found["same"].tolist() == texts


def test_half_precision_and_empty_tensors_pass(bench: Bench) -> None:
    halves = np.float16([[0.5, -2]])
    np.testing.assert_array_equal(answers(infer(bench, "half", bundle(x=halves)))["y"], halves)
    assert answers(infer(bench, "half", bundle(x=halves[:0])))["y"].shape == (0, 2)


def test_a_large_bundle_is_read_from_its_file_and_a_large_answer_is_an_artifact(bench: Bench) -> None:
    array = np.random.default_rng(1).random((4, 2**18), np.float32)
    content = pack([blob_of("x", array)])
    reference = bench.objects.put_bytes("uploads/t/1/bundle", content, media_type=MEDIA_TYPE, name="bundle")
    job = bench.run(bench.submit(model="large", task="tensors", inputs=[JobInput(object=reference)]))
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.result is not None
    assert job.result["artifact"] == OUTPUTS_NAME
    assert "data" not in job.result
    (artifact,) = job.artifacts
    stored = b"".join(bench.objects.stream(artifact.object))
    np.testing.assert_array_equal(answers(job, stored)["y"], array)


def test_numbers_that_lie_askew_in_the_bundle_are_read_all_the_same(bench: Bench) -> None:
    blobs = [blob_of("INPUT0", ROW[None]), blob_of("INPUT1", ROW[None])]
    whole = pack(blobs)
    header = whole[4:].split(b" ", 1)[0].rstrip()
    for padding in range(4):
        padded = header + b" " * padding
        content = len(padded).to_bytes(4, "little") + padded + b"".join(blob.data for blob in blobs)
        np.testing.assert_array_equal(answers(infer(bench, "add-sub", content))["OUTPUT0"], [2 * ROW])


WRONG: dict[str, tuple[str, dict[str, Array], list[dict[str, Any]], str]] = {
    "unknown input": ("add-sub", {"INPUT9": ROW[None]}, [], "'INPUT9'; it has INPUT0, INPUT1"),
    "missing input": ("add-sub", {"INPUT0": ROW[None]}, [], "'INPUT1' is missing: the model wants INT32 [-1, 16]"),
    "type": (
        "add-sub",
        {"INPUT0": ROW[None].astype(np.float32), "INPUT1": ROW[None]},
        [],
        "'INPUT0' is FP32 [1, 16], and the model wants INT32 [-1, 16]",
    ),
    "rank": ("add-sub", {"INPUT0": ROW, "INPUT1": ROW[None]}, [], "'INPUT0' is INT32 [16], and the model wants"),
    "size": ("add-sub", {"INPUT0": ROW[None, :8], "INPUT1": ROW[None]}, [], "INT32 [1, 8], and the model wants"),
    "batch": ("add-sub", {"INPUT0": ROW[None].repeat(9, 0), "INPUT1": ROW[None].repeat(9, 0)}, [], "of at most 8"),
    "batches": ("add-sub", {"INPUT0": ROW[None].repeat(2, 0), "INPUT1": ROW[None]}, [], "'INPUT0': 2, 'INPUT1': 1"),
    "output": ("half", {"x": np.ones((1, 2), np.float16)}, [{"name": "z"}], "no output 'z'; it has y"),
    "classes of strings": (
        "strings",
        {"texts": np.array(["a"], object)},
        [{"name": "same", "classification": 1}],
        "ranked by numbers alone",
    ),
}
CODES = {
    "unknown input": "tensor-unknown",
    "missing input": "tensor-missing",
    "type": "tensor-datatype",
    "rank": "tensor-shape",
    "size": "tensor-shape",
    "batch": "batch-too-large",
    "batches": "batch-sizes-differ",
    "output": "output-unknown",
    "classes of strings": "classification-impossible",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_by_the_tensors_name(bench: Bench, what: str) -> None:
    model, arrays, outputs, said = WRONG[what]
    job = infer(bench, model, bundle(**arrays), outputs)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == CODES[what]
    assert said in job.error.message
    assert not job.error.retryable
    assert job.attempt == 1


def test_bf16_and_strings_that_are_no_text_are_refused_in_words(bench: Bench) -> None:
    job = infer(bench, "half", pack([Blob("x", DataType.BF16, (1, 2), b"\0" * 4)]))
    assert job.error is not None
    assert job.error.code == "datatype-unsupported"
    job = infer(bench, "strings", pack([Blob("texts", DataType.BYTES, (1,), b"\x01\0\0\0\xff")]))
    assert job.error is not None
    assert (job.error.code, job.error.facts["element"]) == ("tensor-not-utf8", 0)


def test_raw_inference_is_there_for_models_of_other_tasks_too(settings: Settings, tmp_path: Path) -> None:
    with opened_bench(settings, tmp_path / "scratch") as bench:
        numbers = np.float32([1, 2, 3])
        np.testing.assert_array_equal(answers(infer(bench, "echo", bundle(x=numbers)))["y"], numbers)
        assert bench.run(bench.submit(params={"values": [1.0]})).result == {"values": [1.0]}


def test_a_worker_serves_a_repository_of_triton_as_it_is(settings: Settings, tmp_path: Path) -> None:
    models = make_repository(tmp_path / "models")
    content = base64.b64encode(bundle(INPUT0=ROW[None], INPUT1=ROW[None])).decode()
    new = new_job(
        model="add-sub",
        task="tensors",
        params={"outputs": [{"name": "OUTPUT0"}]},
        inputs=[JobInput(inline=InlineInput(data=content, media_type=MEDIA_TYPE))],
    )
    with worker_process(settings, tmp_path / "worker", MODELS_PATH=str(models)), job_store(settings) as jobs:
        job = wait_for(jobs, submit(settings, jobs, new).id)
        with Database(settings.database_dsn) as database:
            cards = {row["name"]: row["card"] for row in database.run("SELECT name, card FROM model_card")}
    np.testing.assert_array_equal(answers(job)["OUTPUT0"], [2 * ROW])
    assert set(cards) == {"add-sub", "half", "scores", "strings"}
    assert [(spec["name"], spec["datatype"], spec["shape"]) for spec in cards["add-sub"]["inputs"]] == [
        ("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16]),
    ]  # fmt: skip
    assert cards["add-sub"]["config"]["max_batch_size"] == 8
    assert cards["half"]["config"]["input"][0]["data_type"] == "TYPE_FP16"
