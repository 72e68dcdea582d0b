"""A new user, with the command alone against a front door and a worker: upload, deploy, name, roll back, remove."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.main import run
from fleet.tensors import MEDIA_TYPE, Blob, DataType, pack
from fleet_client import Client, ImportFailed, ModelVersion
from tests.support.fleet_of_one import worker_process
from tests.support.front_door import Door, front_door
from tests.support.graphs import scale_graph
from tests.support.house import worker_folder
from tests.support.servers import Servers

#: Runs `fleet models ...` -> exit code, standard output, standard error.
Command = Callable[..., tuple[int, str, str]]
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:")


@pytest.fixture(scope="module")
def door(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("worker")
    with (
        servers.fresh() as settings,
        front_door(settings) as opened,
        worker_process(settings, folder, **worker_folder(folder)),
    ):
        yield opened


@pytest.fixture
def models(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("FLEET_URL", door.url)

    def command(*arguments: object) -> tuple[int, str, str]:
        code = run(["models", *map(str, arguments)])
        said = capsys.readouterr()
        # The front door writes its log there, too.
        out = "".join(line for line in said.out.splitlines(keepends=True) if not _LOGGED.match(line))
        return code, out, said.err

    return command


def scaled(client: Client, model: str) -> tuple[int | None, float]:
    """-> the version that ran, and what it made of 3."""
    bundle = pack([Blob("x", DataType.FP32, (1,), np.array([3], np.float32).tobytes())])
    answer = client._wires.api.request(
        "POST",
        "jobs",
        json={
            "model": model,
            "task": "tensors",
            "inputs": [{"data": b64encode(bundle).decode(), "media_type": MEDIA_TYPE}],
        },
    )
    job = client.job(answer.json()["id"])
    result = job.wait().record.result
    assert result is not None
    return job.record.version, float(np.frombuffer(b64decode(result["data"]), np.float32)[0])


def test_from_the_first_upload_to_the_roll_back(door: Door, models: Command, tmp_path: Path) -> None:
    mine = tmp_path / "times"
    for version, factor in ((1, 2.0), (2, 5.0)):
        (mine / str(version)).mkdir(parents=True)
        (mine / str(version) / "model.onnx").write_bytes(scale_graph(factor))
    (mine / "model.yaml").write_text("task: tensors\ndescription: Times a number.\n")
    with Client(door.url) as client:
        code, out, err = models("upload", mine / "1", "--name", "times", "--deploy")
        assert (code, out) == (0, "times@1 ready (default)\n"), err
        assert "times@1 importing" in err or "times@1 requested" in err
        assert scaled(client, "times") == (1, 6.0)

        code, out, err = models("upload", mine, "--json")
        assert code == 0, err
        assert (json.loads(out)["version"], json.loads(out)["state"]) == (2, "ready")
        assert scaled(client, "times") == (1, 6.0)
        assert scaled(client, "times@2") == (2, 15.0)

        code, out, err = models("deploy", "times", 2, "--alias", "canary")
        assert code == 0, err
        assert scaled(client, "times@canary") == (2, 15.0)
        assert models("deploy", "times", "canary")[0] == 0
        status = json.loads(models("status", "times", "--json")[1])
        assert (status["default_version"], status["aliases"]) == (2, {"canary": 2, "default": 2})

        assert models("deploy", "times", 1)[0] == 0
        assert client.model("times").version == 1

        code, _, err = models("remove", "times", 2)
        assert (code, "[409 version-in-use]" in err) == (8, True)
        assert models("alias", "times", "canary", "--drop") == (0, "times@canary dropped\n", "")
        assert models("remove", "times", 2)[0] == 0
        assert [version.version for version in client.model_versions("times") if version.state == "ready"] == [1]

        told = client.model_metrics("times")
        assert (told.states, told.errors) == ({"succeeded": 4}, {})
        code, out, _ = models("metrics", "times")
        assert (code, "4 (" in out) == (0, True)


def test_what_cannot_be_served_ends_with_the_reason(door: Door, models: Command, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph at all")
    code, out, err = models("upload", tmp_path / "model.onnx", "--name", "broken")
    assert (code, out) == (1, "")
    assert "version 1 of the model 'broken' could not be brought in" in err
    with Client(door.url) as client:
        seen: list[ModelVersion] = []
        with pytest.raises(ImportFailed) as failed:
            client.wait_for_model(client.model_version("broken", 1), seen.append)
        assert failed.value.version.error is not None
        assert failed.value.code == failed.value.version.error.code
        assert [version.state for version in seen] == ["failed"]
        assert [version.name for version in client.arriving_models()] == ["broken"]
    code, out, _ = models("list")
    assert (code, "broken@1" in out) == (0, True)
    code, out, _ = models("versions", "broken")
    assert (code, "failed" in out) == (0, True)
    assert models("retry", "broken", 1, "--no-wait")[0] == 0
    assert models("remove", "broken", 1)[0] == 0


def test_unloaded_is_out_of_service_until_it_is_loaded(door: Door, models: Command, tmp_path: Path) -> None:
    (tmp_path / "twice.onnx").write_bytes(scale_graph(2.0))
    assert models("upload", tmp_path / "twice.onnx")[0] == 0
    with Client(door.url) as client:
        assert scaled(client, "twice") == (1, 6.0)
        assert models("unload", "twice", "--wait", 30)[0] == 0
        assert client.model_health("twice").status == "unavailable"
        assert models("load", "twice", "1", "--wait", 30)[0] == 0
        (version,) = client.model_status("twice").versions
        assert (version.desire, version.loaded_workers) == ("loaded", 1)
        assert models("reload", "twice", "--wait", 30)[0] == 0


def test_a_place_that_is_none_is_refused_here(models: Command) -> None:
    for place in ("ftp://example.org/m.onnx", "github:owner/name", "wheel:p==1.0"):
        code, _, err = models("pull", place)
        assert (code, "[input-unusable]" in err) == (2, True), err
