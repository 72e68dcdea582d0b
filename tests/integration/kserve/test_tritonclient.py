"""Triton's own Python client, sync and asyncio, against a running stack: inference in all its forms."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.support.triton_stack import Stack

MIB = 1024 * 1024
VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.1, -65504]], np.float16),
    "FP32": np.array([[0.1, -3.4028235e38]], np.float32),
    "FP64": np.array([[0.1, -1.7976931348623157e308]], np.float64),
    "BYTES": np.array([["é".encode(), b""]], np.object_),
}


@pytest.fixture
def client(stack: Stack) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(stack.address, concurrency=4, network_timeout=120) as opened:
        yield opened


def tensor(name: str, array: Any, datatype: str, binary: bool = True, module: Any = triton) -> Any:
    given = module.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def pair(module: Any = triton, binary: bool = True, batch: int = 1) -> tuple[list[Any], Any, Any]:
    a = np.arange(16 * batch, dtype=np.int32).reshape(batch, 16)
    b = np.ones((batch, 16), np.int32)
    return [tensor("INPUT0", a, "INT32", binary, module), tensor("INPUT1", b, "INT32", binary, module)], a, b


@pytest.mark.parametrize("binary", [True, False])
def test_every_type_comes_back_as_it_went(client: triton.InferenceServerClient, binary: bool) -> None:
    inputs = [tensor(f"in_{kind}", array, kind, binary or kind == "FP16") for kind, array in VALUES.items()]
    wanted = [triton.InferRequestedOutput(f"out_{kind}", binary_data=binary or kind == "FP16") for kind in VALUES]
    result = client.infer("every-type", inputs, outputs=wanted)
    for kind, array in VALUES.items():
        back = result.as_numpy(f"out_{kind}")
        if kind == "BYTES" and not binary:
            back = np.char.encode(back.astype(str), "utf-8").astype(np.object_)
        assert back.dtype == array.dtype
        assert back.tolist() == array.tolist()
    assert [output["name"] for output in result.get_response()["outputs"]] == [f"out_{kind}" for kind in VALUES]


def test_empty_tensors_come_back_empty(client: triton.InferenceServerClient) -> None:
    for binary in (True, False):
        empty = {kind: array[:0] for kind, array in VALUES.items()}
        inputs = [tensor(f"in_{kind}", array, kind, binary or kind == "FP16") for kind, array in empty.items()]
        result = client.infer("every-type", inputs)
        for kind in VALUES:
            assert result.as_numpy(f"out_{kind}").shape == (0, 2)


def test_a_request_has_its_id_priority_timeout_and_parameters(client: triton.InferenceServerClient) -> None:
    inputs, a, b = pair()
    result = client.infer(
        "add-sub",
        inputs,
        model_version="1",
        request_id="mine-1",
        priority=1,
        timeout=30_000_000,
        parameters={"custom": "word", "number": 7},
        headers={"x-request-id": "seen"},
        query_params={"any": 1},
    )
    assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()
    assert result.as_numpy("OUTPUT1").tolist() == (a - b).tolist()
    told = result.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("mine-1", "add-sub", "1")


@pytest.mark.parametrize("there", [None, "gzip", "deflate"])
@pytest.mark.parametrize("back", [None, "gzip", "deflate"])
def test_bodies_are_compressed_both_ways(
    client: triton.InferenceServerClient, there: str | None, back: str | None
) -> None:
    for binary in (True, False):
        inputs, a, b = pair(binary=binary, batch=8)
        result = client.infer(
            "add-sub", inputs, request_compression_algorithm=there, response_compression_algorithm=back
        )
        assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()


def test_only_the_outputs_that_were_asked_for_come_in_their_order(client: triton.InferenceServerClient) -> None:
    inputs, a, b = pair()
    mixed = [
        triton.InferRequestedOutput("OUTPUT1", binary_data=False),
        triton.InferRequestedOutput("OUTPUT0", binary_data=True),
    ]
    result = client.infer("add-sub", inputs, outputs=mixed)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["OUTPUT1", "OUTPUT0"]
    assert result.as_numpy("OUTPUT1").tolist() == (a - b).tolist()
    assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()
    one = client.infer("add-sub", inputs, outputs=mixed[1:])
    assert one.get_output("OUTPUT1") is None


@pytest.mark.parametrize("binary", [True, False])
def test_classes_come_best_first_with_their_labels(client: triton.InferenceServerClient, binary: bool) -> None:
    pixels = np.array([[[0.1, 0.9], [0.5, 0.3]], [[4, 3], [2, 1]]], np.float32)
    wanted = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=3)]
    result = client.infer("scores", [tensor("pixels", pixels, "FP32")], outputs=wanted)
    back = [[item if isinstance(item, str) else item.decode() for item in row] for row in result.as_numpy("scores")]
    assert back == [
        ["0.900000:1:dog", "0.500000:2", "0.300000:3:moose"],
        ["4.000000:0:cat", "3.000000:1:dog", "2.000000:2"],
    ]
    assert result.get_output("scores")["datatype"] == "BYTES"


def test_requests_run_at_once(client: triton.InferenceServerClient) -> None:
    asked = [pair(batch=size) for size in range(1, 9)]
    coming = [client.async_infer("add-sub", inputs, request_id=str(at)) for at, (inputs, _, _) in enumerate(asked)]
    for at, (_, a, b) in enumerate(asked):
        result = coming[at].get_result(timeout=60)
        assert result.get_response()["id"] == str(at)
        assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()


def test_strings_of_many_sizes(client: triton.InferenceServerClient) -> None:
    texts = np.array([b"x" * size for size in (0, 1, 1000, 70_000)], np.object_)
    assert client.infer("strings", [tensor("texts", texts, "BYTES")]).as_numpy("same").tolist() == texts.tolist()


def test_64_mib_go_and_come(client: triton.InferenceServerClient) -> None:
    big = np.arange(16 * MIB, dtype=np.float32)
    back = client.infer("wide", [tensor("x", big, "FP32")]).as_numpy("y")
    assert back.nbytes == 64 * MIB
    assert back.tobytes() == big.tobytes()


@pytest.mark.parametrize(
    ("model", "version", "change", "status", "said"),
    [
        ("nobody", "", {}, "404", "there is no model 'nobody'"),
        ("add-sub", "9", {}, "404", "there is no model 'add-sub' in version 9"),
        ("add-sub", "", {"name": "INPUT"}, "400", "has no input 'INPUT'; its inputs are: INPUT0 (INT32 [-1, 16])"),
        ("add-sub", "", {"shape": (1, 15)}, "400", "INT32 [1, 15] was given, and the model 'add-sub' wants INT32"),
        ("add-sub", "", {"shape": (9, 16)}, "400", "a batch of 9 was given, and the model 'add-sub' takes at most 8"),
        ("add-sub", "", {"datatype": "FP32"}, "400", "FP32 [1, 16] was given"),
        ("add-sub", "", {"missing": True}, "400", "input 'INPUT1' is missing"),
        ("add-sub", "", {"output": "OUTPUT"}, "400", "has no output 'OUTPUT'"),
    ],
)
def test_what_is_wrong_is_told_in_words(
    client: triton.InferenceServerClient, model: str, version: str, change: dict[str, Any], status: str, said: str
) -> None:
    array = np.zeros(change.get("shape", (1, 16)), np.float32 if change.get("datatype") else np.int32)
    inputs = [tensor(change.get("name", "INPUT0"), array, change.get("datatype", "INT32"))]
    if "missing" not in change:
        inputs.append(tensor("INPUT1", np.zeros((len(array), 16), np.int32), "INT32"))
    outputs = [triton.InferRequestedOutput(change["output"])] if "output" in change else None
    with pytest.raises(InferenceServerException) as refusal:
        client.infer(model, inputs, model_version=version, outputs=outputs)
    assert refusal.value.status() == status
    assert said in refusal.value.message()


def test_sequences_are_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="sequences of requests are not possible"):
        client.infer("add-sub", pair()[0], sequence_id=4, sequence_start=True)


def test_bytes_that_are_no_text_are_told_by_the_worker(client: triton.InferenceServerClient) -> None:
    texts = np.array([b"\xff"], np.object_)
    with pytest.raises(InferenceServerException, match="not UTF-8") as refusal:
        client.infer("strings", [tensor("texts", texts, "BYTES")])
    assert refusal.value.status() == "400"


def test_the_asyncio_client_does_the_same(stack: Stack) -> None:
    async def all_of_it() -> None:
        async with triton_aio.InferenceServerClient(stack.address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("add-sub")
            assert (await client.get_server_metadata())["name"] == "fleet"
            assert (await client.get_model_metadata("add-sub", "1"))["versions"] == ["1"]
            assert (await client.get_model_config("add-sub"))["max_batch_size"] == 8
            assert (await client.get_inference_statistics("add-sub"))["model_stats"][0]["name"] == "add-sub"
            assert "add-sub" in [entry["name"] for entry in await client.get_model_repository_index()]
            for there, back in ((None, None), ("gzip", "deflate"), ("deflate", "gzip")):
                inputs, a, b = pair(triton_aio)
                result = await client.infer(
                    "add-sub",
                    inputs,
                    request_id="aio",
                    priority=3,
                    timeout=20_000_000,
                    request_compression_algorithm=there,
                    response_compression_algorithm=back,
                )
                assert result.as_numpy("OUTPUT0").tolist() == (a + b).tolist()
                assert result.get_response()["id"] == "aio"
            inputs = [tensor(f"in_{kind}", array, kind, module=triton_aio) for kind, array in VALUES.items()]
            every = await client.infer("every-type", inputs)
            assert every.as_numpy("out_FP16").tolist() == VALUES["FP16"].tolist()
            together = await asyncio.gather(*(client.infer("add-sub", pair(triton_aio)[0]) for _ in range(16)))
            assert len(together) == 16
            with pytest.raises(InferenceServerException, match="there is no model 'nobody'"):
                await client.infer("nobody", pair(triton_aio)[0])
            with pytest.raises(InferenceServerException, match="wants INT32"):
                await client.infer(
                    "add-sub", [tensor("INPUT0", np.zeros((1, 3), np.int32), "INT32", module=triton_aio)]
                )

    asyncio.run(all_of_it())


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
def test_64_mib_go_and_come_by_asyncio(stack: Stack) -> None:
    big = np.ones(16 * MIB, np.float32)

    async def there_and_back() -> Any:
        async with triton_aio.InferenceServerClient(stack.address) as client:
            result = await client.infer("wide", [tensor("x", big, "FP32", module=triton_aio)])
            return result.as_numpy("y")

    assert asyncio.run(there_and_back()).tobytes() == big.tobytes()
