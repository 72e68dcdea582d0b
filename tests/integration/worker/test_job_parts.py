"""The parts of one run: what they hinge on, how long it waits for the store, and when it is another's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.contracts import InlineInput, Job, JobInput, ObjectRef
from fleet.errors import DependencyError, RunStopped
from fleet.outbox import Outbox
from fleet.parts import PartStore
from fleet.settings import Settings
from tests.support.sweeping import Sweeping, sweeping_of
from tests.support.tiny_embedder import MODEL, loaded, make_model
from worker.engine.loaded import LoadedModel
from worker.parts import JobParts, origin_of
from worker.progress import JobProgress
from worker.stop import StopReason, StopToken

INPUT = JobInput(object=ObjectRef(bucket="b", key="uploads/a/texts.jsonl", size=3, sha256="a" * 64, name="texts.jsonl"))


@pytest.fixture
def scene(settings: Settings) -> Iterator[Sweeping]:
    with sweeping_of(settings) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return loaded(make_model(tmp_path / "models"))


def parts_of(scene: Sweeping, job: Job, model: LoadedModel, stop: StopToken | None = None) -> JobParts:
    return JobParts(scene.parts, job, [INPUT], model, stop or StopToken(), "this")


def lapse(scene: Sweeping) -> None:
    scene.database.run("update job set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
    assert Outbox(scene.database).lapse_leases()


def test_the_next_run_reads_what_the_one_before_has_kept(scene: Sweeping, model: LoadedModel) -> None:
    first = scene.claimed()
    parts_of(scene, first.job, model).keep("lines-0", b"first")
    lapse(scene)
    parts = parts_of(scene, scene.claimed(first.job).job, model)
    assert (parts.read("lines-0"), parts.read("lines-1")) == (b"first", None)


def test_a_run_that_went_on_where_another_was_teaches_nothing_of_service_times(
    scene: Sweeping, model: LoadedModel
) -> None:
    first = scene.claimed()
    whole, resumed = JobProgress(StopToken()), JobProgress(StopToken())
    whole.keeping = resumed.keeping = lambda hinges_on: parts_of(scene, first.job, model)
    whole.parts("this").keep("lines-0", b"first")
    resumed.parts("this")
    assert (whole.resumed, resumed.resumed) == (False, True)


def test_a_run_whose_job_is_anothers_ends_at_the_next_part(scene: Sweeping, model: LoadedModel) -> None:
    first = scene.claimed()
    parts = parts_of(scene, first.job, model)
    lapse(scene)
    with pytest.raises(RunStopped) as stopped:
        parts.keep("lines-0", b"stale")
    assert stopped.value.code == StopReason.LEASE_LOST
    assert scene.objects.keys(f"results/{first.job.id}/") == []


def test_a_run_that_was_told_to_end_keeps_nothing_more(scene: Sweeping, model: LoadedModel) -> None:
    stop, claim = StopToken(), scene.claimed()
    parts = parts_of(scene, claim.job, model, stop)
    stop.set(StopReason.CANCELLED)
    with pytest.raises(RunStopped):
        parts.keep("lines-0", b"first")
    assert scene.objects.keys(f"results/{claim.job.id}/") == []


@pytest.mark.parametrize("verb", ["keep", "read", "kept"])
def test_a_store_that_is_away_for_a_moment_costs_no_part(
    scene: Sweeping, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    claim = scene.claimed()
    scene.parts.keep(claim.job, origin_of(claim.job, [INPUT], model, "this"), "lines-0", b"first")
    done, away = getattr(PartStore, verb), [DependencyError("away", code="object-store-unavailable")]

    def sometimes(*given: Any) -> Any:
        if away:
            raise away.pop()
        return done(*given)

    monkeypatch.setattr(PartStore, verb, sometimes)
    parts = parts_of(scene, claim.job, model)
    parts.keep("lines-1", b"second")
    assert parts.read("lines-0") == b"first"
    assert not away


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a" * 65, "a b", "é"])
def test_names_that_cannot_be_keys_are_refused(scene: Sweeping, model: LoadedModel, name: str) -> None:
    with pytest.raises(ValueError, match="name of a part"):
        parts_of(scene, scene.claimed().job, model).keep(name, b"first")


def test_parts_hinge_on_everything_that_they_come_of(scene: Sweeping, model: LoadedModel, tmp_path: Path) -> None:
    job = scene.claimed(params={"kind": "query"}).job

    def of(job: Job = job, item: JobInput = INPUT, model: LoadedModel = model, hinges_on: str = "this") -> str:
        return origin_of(job, [item], model, hinges_on)

    assert INPUT.object is not None
    inline = JobInput(inline=InlineInput(data="aGVsbG8="))
    others = [
        of(job.model_copy(update={"params": {"kind": "passage"}})),
        of(item=JobInput(object=INPUT.object.model_copy(update={"sha256": "b" * 64}))),
        of(item=JobInput(object=INPUT.object.model_copy(update={"name": "texts.json"}))),
        of(item=inline),
        of(item=JobInput(inline=InlineInput(data="aGVsbG8h"))),
        of(hinges_on="that"),
    ]
    manifest = model.version.manifest.model_copy(update={"pipeline": {"normalize": False}})
    others.append(of(model=replace(model, version=replace(model.version, manifest=manifest))))
    changed = make_model(tmp_path / "changed")
    (changed / "1" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 5}))
    others.append(of(model=loaded(changed)))
    # What all versions share lies beside them.
    shared = make_model(tmp_path / "shared")
    (shared / "preprocessor_config.json").write_text("{}")
    others.append(of(model=loaded(shared)))
    assert len({of(), *others}) == len(others) + 1

    later = job.model_copy(update={"attempt": 7, "forgiven": 2, "queue": "gpu.bulk.low"})
    elsewhere = JobInput(object=INPUT.object.model_copy(update={"key": "uploads/b/texts.jsonl"}))
    same = loaded(make_model(tmp_path / "same"))
    assert model.version.key == f"{MODEL}/1"
    assert of() == of(later) == of(item=elsewhere) == of(model=same)


def test_another_provider_makes_its_own_parts(
    scene: Sweeping, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = scene.claimed().job
    ours = origin_of(job, [INPUT], model, "this")
    monkeypatch.setattr(type(model.session), "provider", "CUDAExecutionProvider")
    assert origin_of(job, [INPUT], model, "this") != ours
