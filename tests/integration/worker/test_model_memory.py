"""A model that this worker can never hold: its job fails with numbers, and what fits runs on."""

from pathlib import Path

import pytest

from fleet.contracts import JobState
from fleet.settings import Settings
from tests.support.bench import opened_bench


def test_a_model_that_never_fits_fails_its_job_with_numbers(settings: Settings, tmp_path: Path) -> None:
    tight = settings.model_copy(update={"cache_ram_gb": 1 / 1024})
    with opened_bench(tight, tmp_path) as bench:
        job = bench.run(bench.submit(max_attempts=1))
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.code == "memory-error"
        assert job.error.facts["budget_bytes"] == 1024**2 < job.error.facts["needed_bytes"]
        assert bench.process.registry.states()["echo/1"]["state"] == "UNAVAILABLE"


def test_a_job_leases_its_model_and_counts_show_it(settings: Settings, tmp_path: Path) -> None:
    with opened_bench(settings, tmp_path) as bench:
        assert bench.run(bench.submit()).state is JobState.SUCCEEDED
        state = bench.process.registry.states()["echo/1"]
        assert (state["state"], state["leases"], state["generation"]) == ("READY", 0, 1)
        value = bench.process.measures.registry.get_sample_value
        assert value("fleet_worker_models_loaded") == 1
        assert value("fleet_worker_model_loads_total", {"model": "echo/1", "outcome": "ok"}) == 1
        assert value("fleet_worker_models_bytes") == pytest.approx(state["memory_bytes"])
        bench.process.registry.unload("echo/1", on_demand=True)
        assert value("fleet_worker_models_closed_total", {"model": "echo/1", "reason": "unloaded"}) == 1
        assert bench.run(bench.submit()).state is JobState.SUCCEEDED
