"""Models brought in by one worker and served by another, with real worker processes."""

import signal
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np

from fleet.catalogue import Catalogue, ModelState
from fleet.contracts import InlineInput, Job, JobInput, Pool
from fleet.database import Database
from fleet.jobs import JobStore
from fleet.settings import Settings
from fleet.tensors import MEDIA_TYPE, Blob, DataType, pack
from tests.support.fleet_of_one import job_store, new_job, submit, wait_for, worker_process
from tests.support.graphs import scale_graph
from tests.support.house import house, worker_folder
from tests.support.waiting import eventually


def scaled(settings: Settings, jobs: JobStore, model: str, version: int = 1) -> Job:
    """A job of raw inference, once it has ended."""
    bundle = pack([Blob("x", DataType.FP32, (2,), np.array([1, 2], np.float32).tobytes())])
    given = JobInput(inline=InlineInput(data=b64encode(bundle).decode(), media_type=MEDIA_TYPE))
    job = submit(settings, jobs, new_job(model, "tensors", version=version, inputs=[given]))
    return wait_for(jobs, job.id)


def answer(job: Job) -> list[float]:
    assert job.result is not None, job.error
    return np.frombuffer(b64decode(job.result["data"]), np.float32).tolist()


def test_what_one_worker_imports_another_serves_without_restart(settings: Settings, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with house(settings) as home, job_store(settings) as jobs:
        with worker_process(
            settings, second, WORKER_NAME="server", WORKER_LANES="interactive", **worker_folder(second)
        ):
            with worker_process(settings, first, WORKER_NAME="importer", **worker_folder(first)):
                row = home.wait(home.ask("double", home.upload({"model.onnx": scale_graph()}), aliases=["prod"]))
                assert row.state == "ready", row.error
            job = scaled(settings, jobs, "double")
    assert job.state.value == "succeeded", job.error
    assert job.ran_on is not None
    assert job.ran_on.worker == "server"


def test_a_version_that_was_removed_and_brought_in_anew_is_not_served_from_memory(
    settings: Settings, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with (
        house(settings) as home,
        job_store(settings) as jobs,
        worker_process(settings, first, WORKER_NAME="server", **worker_folder(first)) as server,
    ):
        home.wait(home.ask("scaled", home.upload({"model.onnx": scale_graph(2)})))
        assert answer(scaled(settings, jobs, "scaled")) == [2.0, 4.0]
        # It sees nothing of what follows.
        server.send_signal(signal.SIGSTOP)
        home.records.remove("scaled", 1)
        with worker_process(settings, second, WORKER_NAME="importer", **worker_folder(second)):
            eventually(lambda: not home.records.versions("scaled"))
            home.wait(home.ask("scaled", home.upload({"model.onnx": scale_graph(3)})))
        server.send_signal(signal.SIGCONT)
        eventually(lambda: answer(scaled(settings, jobs, "scaled")) == [3.0, 6.0])


def test_an_import_whose_worker_is_killed_is_taken_over(settings: Settings, tmp_path: Path) -> None:
    """The first worker is frozen in the middle and then killed; the second one starts when the lease has lapsed."""
    first, second = tmp_path / "first", tmp_path / "second"
    short = {"LEASE_S": "2"}
    with house(settings) as home:
        with worker_process(settings, first, **short, **worker_folder(first)) as process:
            process.send_signal(signal.SIGSTOP)
            row = home.ask("double", home.upload({"model.onnx": scale_graph()}))
            held = home.records.claim_import("the first worker", Pool.CPU, 1.0)
            assert held is not None
            assert held.attempt == 1
            process.kill()
        with worker_process(settings, second, **short, **worker_folder(second)):
            taken = home.wait(row)
        assert taken.state == "ready", taken.error
        assert (taken.attempt, taken.losses) == (2, 1)
        assert not home.records.fail_import(held, {"code": "too-late"})


def test_desires_reach_workers_and_the_worker_that_was_away(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    with house(settings) as home, Database(settings.database_dsn) as database:
        catalogue = Catalogue(database)

        def state() -> ModelState | None:
            return next((live.word.model_states.get("double/1") for live in catalogue.workers()), None)

        with worker_process(settings, folder, **worker_folder(folder)):
            home.wait(home.ask("double", home.upload({"model.onnx": scale_graph()})))
            first = home.records.desire("double", 1, "loaded")
            eventually(lambda: (s := state()) and (s.state, s.generation) == ("READY", first.generation))
            again = home.records.desire("double", 1, "loaded")
            eventually(lambda: (s := state()) and (s.state, s.generation) == ("READY", again.generation))
            unloaded = home.records.desire("double", 1, "unloaded")
            eventually(lambda: (s := state()) and (s.state, s.generation) == ("UNAVAILABLE", unloaded.generation))
        loaded = home.records.desire("double", 1, "loaded")
        with worker_process(settings, folder, **worker_folder(folder)):
            eventually(lambda: (s := state()) and (s.state, s.generation) == ("READY", loaded.generation))


def test_a_model_of_the_house_is_preloaded_and_takes_another_configuration(settings: Settings, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with house(settings) as home, Database(settings.database_dsn) as database:
        catalogue = Catalogue(database)

        def state() -> ModelState | None:
            return next((live.word.model_states.get("double/1") for live in catalogue.workers()), None)

        def told(generation: int) -> ModelState:
            eventually(lambda: (s := state()) is not None and s.generation == generation)
            found = state()
            assert found is not None
            return found

        with worker_process(settings, first, **worker_folder(first)):
            row = home.wait(home.ask("double", home.upload({"model.onnx": scale_graph()})))
            assert row.state == "ready", row.error
        with worker_process(settings, second, **worker_folder(second), PRELOAD_MODELS="double"):
            assert told(0).state == "READY"
            wrong = {"input": [{"name": "x", "data_type": "TYPE_INT32", "dims": [2]}]}
            asked = home.records.desire("double", 1, "loaded", wrong)
            refused = told(asked.generation)
            assert refused.state == "READY"
            assert "declared INT32, and the graph's is FP32" in refused.reason
            right = {"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]}
            taken = told(home.records.desire("double", 1, "loaded", right).generation)
            assert (taken.state, taken.reason) == ("READY", "")


def test_a_folder_that_is_added_is_served_without_restart(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    with job_store(settings) as jobs, Database(settings.database_dsn) as database:
        with worker_process(settings, folder, **worker_folder(folder)):
            added = folder / "models" / "double" / "1"
            added.mkdir(parents=True)
            (added / "model.onnx").write_bytes(scale_graph())
            eventually(lambda: any("double/1" in row.word.models for row in Catalogue(database).workers()))
            assert Catalogue(database).get("double").card.task == "tensors"
            job = scaled(settings, jobs, "double")
    assert job.state.value == "succeeded", job.error
