"""The segmentation task with functions in the network's place: what must be true of the mask whatever the model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fleet.contracts import Stage
from fleet.errors import InputTooLarge, ModelError, RunStopped, ValidationFailed
from tests.support.ort_model import FunctionModel, RecordedProgress
from tests.support.volumes import ball, positions_of, volume_of
from worker.contract import Array, Mask, Tensor, Volume
from worker.tasks.segmentation import TASK

CODES = st.sampled_from(["LPS", "RAS", "SPL", "AIR", "PSR", "ILA", "RSP", "LAI"])
TURNS = st.tuples(*[st.floats(-14, 14)] * 3)
SPACINGS = st.tuples(*[st.floats(0.4, 3.0)] * 3)
IDENTITY = {"grid": {"kind": "source"}, "scores": "probabilities", "decide": {"method": "threshold"}}


def same(image: Array) -> Array:
    """The volume itself as probability."""
    return image


def model_of(
    function: Callable[[Array], Array], labels: dict[int, str] | None = None, **pipeline: Any
) -> FunctionModel:
    recipe = TASK.Settings.model_validate(IDENTITY | pipeline)
    return FunctionModel(function, recipe, labels or {1: "thing"})


def run(volume: Volume, model: FunctionModel, progress: RecordedProgress | None = None, **params: Any) -> Mask:
    wishes = TASK.Params.model_validate({"preview": False} | params)
    return TASK.run(volume, wishes, model, progress or RecordedProgress())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(2, 14)] * 3),
    code=CODES,
    turn=TURNS,
    spacing=SPACINGS,
    axes=st.sampled_from(["RAS", "SPL", "zyx", "yxz"]),
    window=st.tuples(*[st.integers(2, 9)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    starts=st.sampled_from(["even", "fixed"]),
    blend=st.sampled_from(["constant", "gaussian_monai", "gaussian_nnunet"]),
    mirror=st.lists(st.integers(0, 2), unique=True, max_size=2),
    whole=st.booleans(),
    seed=st.integers(0, 99),
)
def test_an_identity_model_gives_back_exactly_the_voxels_that_were_set(
    shape: tuple[int, int, int], code: str, turn: Any, spacing: Any, axes: str, window: Any, overlap: float,
    starts: str, blend: str, mirror: list[int], whole: bool, seed: int,
) -> None:  # fmt: skip
    known = (np.random.default_rng(seed).random(shape) < 0.3).astype(np.int16)
    volume = volume_of(known, code, turn, spacing, (3.0, -40.0, 17.5))
    sliding = {"mode": "windows", "shape": window, "overlap": overlap, "starts": starts, "blend": blend}
    how = {"mode": "whole", "multiple_of": 4} if whole else sliding
    mask = run(volume, model_of(same, axes=axes, run=how, mirror_axes=mirror))
    assert mask.geometry == volume.geometry
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, known)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(14, 24)] * 3),
    code=CODES,
    turn=TURNS,
    grid=st.sampled_from(
        [
            {"kind": "shape", "shape": [20, 22, 24]},
            {"kind": "shape", "shape": [20, 22, 24], "align": "endpoint"},
            {"kind": "shape", "shape": [13, 14, 12], "antialias": True},
            {"kind": "spacing", "spacing_mm": [1.0, 1.5, 0.8]},
            {"kind": "spacing", "spacing_mm": [1.5, 1.0, 1.3], "align": "origin"},
            {"kind": "spacing", "spacing_mm": [1.0, 1.0, 1.0], "align": "endpoint"},
        ]
    ),
)
def test_a_ball_comes_back_through_any_grid_in_its_place(
    shape: tuple[int, int, int], code: str, turn: Any, grid: dict[str, Any]
) -> None:
    volume = volume_of(np.zeros(shape, np.int16), code, turn, (1.1, 1.3, 1.2), (-20.0, 5.0, 9.0))
    known = ball(volume.geometry, 6.5)
    volume.array = known.astype(np.int16) * 1000
    mask = run(volume, model_of(same, grid=grid, intensity={"method": "max"}))
    assert mask.array.shape == shape
    agreement = 2 * np.count_nonzero(known & (mask.array == 1)) / (known.sum() + mask.array.sum())
    assert agreement > 0.9
    centroid = positions_of(volume.geometry)[:, known].mean(axis=1)
    assert mask.statistics[0]["centroid_mm"] == pytest.approx(centroid, abs=0.35)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("code", ["LPS", "RAS", "SPL", "AIR", "ILA"])
def test_the_model_sees_right_anterior_and_superior_where_it_expects_them(code: str, axis: int) -> None:
    """A network that finds the second half along a tensor axis must find that half of the patient."""

    def second_half(image: Array) -> Array:
        scores = np.zeros_like(image)
        half = [slice(None)] * 5
        half[axis + 2] = slice(image.shape[axis + 2] // 2, None)
        scores[tuple(half)] = 1
        return scores

    volume = volume_of(np.ones((8, 10, 12), np.int16), code, (6, -4, 9))
    mask = run(volume, model_of(second_half, axes="RAS"))
    along = positions_of(volume.geometry)[axis] * (-1, -1, 1)[axis]
    inside, outside = along[mask.array == 1], along[mask.array == 0]
    assert inside.size == outside.size
    assert inside.mean() > outside.mean() + 3


def test_mirrored_passes_are_flipped_back_and_averaged() -> None:
    def leaning(image: Array) -> Array:
        """Adds a slope along the last axis, which its mirrored pass must cancel."""
        return image + np.linspace(-0.4, 0.4, image.shape[-1], dtype=np.float32)

    known = (np.random.default_rng(5).random((6, 7, 8)) < 0.5).astype(np.int16)
    model = model_of(leaning, axes="zyx", mirror_axes=[2])
    progress = RecordedProgress()
    assert np.array_equal(run(volume_of(known), model, progress).array, known)
    assert progress.steps == [(1, 2), (2, 2)]
    assert len(model.fed) == 2
    run(volume_of(known), model, mirror=False)
    assert len(model.fed) == 3


def test_progress_counts_passes_and_names_its_stages() -> None:
    progress = RecordedProgress()
    windows = {"mode": "windows", "shape": [4, 4, 4], "overlap": 0.5}
    mask = run(volume_of(np.zeros((8, 8, 8), np.int16)), model_of(same, run=windows, mirror_axes=[0, 1]), progress)
    assert progress.steps == [(k + 1, 27 * 4) for k in range(27 * 4)]
    assert progress.stages[0] is Stage.PREPARE
    assert set(progress.stages) == {Stage.PREPARE, Stage.INFER, Stage.FINISH}
    assert mask.facts["windows"] == 27
    assert mask.facts["passes"] == 108


def test_a_stop_ends_the_run_before_the_next_window() -> None:
    progress = RecordedProgress()

    def stopping(image: Array) -> Array:
        progress.stop = RunStopped("asked to stop", code="cancelled")
        return image

    model = model_of(stopping, run={"mode": "windows", "shape": [4, 4, 4]})
    with pytest.raises(RunStopped):
        run(volume_of(np.zeros((8, 8, 8), np.int16)), model, progress)
    assert len(model.fed) == 1


def test_argmax_paints_the_strongest_channel() -> None:
    known = np.random.default_rng(6).integers(0, 4, (6, 7, 8)).astype(np.int16)

    def one_hot(image: Array) -> Array:
        return np.stack([(image[0, 0] == k) * 9.0 for k in range(4)])[None].astype(np.float32)

    model = model_of(one_hot, {0: "background", 1: "a", 2: "b", 3: "c"}, scores="logits", decide={"method": "argmax"})
    volume = volume_of(known)
    mask = run(volume, model)
    assert np.array_equal(mask.array, known)
    assert mask.labels == {1: "a", 2: "b", 3: "c"}
    some = run(volume, model, labels=[3, 1])
    assert np.array_equal(some.array, np.where(known == 2, 0, known))
    assert [entry["value"] for entry in some.statistics] == [1, 3]


def test_labels_above_255_need_sixteen_bits() -> None:
    region = {"method": "threshold", "regions": [{"channel": 0, "label": 300}]}
    mask = run(volume_of(np.ones((3, 3, 3), np.int16)), model_of(same, {300: "far"}, decide=region))
    assert mask.array.dtype == np.uint16
    assert (mask.array == 300).all()


@pytest.mark.parametrize("upsample", ["scores", "probabilities", "labels"])
def test_a_threshold_is_a_probability_for_logits_too(upsample: str) -> None:
    # logit(0.8) = 1.386
    volume = volume_of(np.array([[[0, 1], [2, 3]], [[1, 1], [2, 2]]], np.int16))
    model = model_of(same, scores="logits", upsample=upsample)
    assert np.array_equal(run(volume, model, threshold=0.8).array, volume.array > 1)
    assert np.array_equal(run(volume, model).array, volume.array > 0)


def test_padding_is_taken_off_again() -> None:
    known = (np.random.default_rng(7).random((3, 5, 2)) < 0.5).astype(np.int16)
    for pad in ({"mode": "constant", "value": -3.0}, {"mode": "edge"}):
        model = model_of(same, run={"mode": "windows", "shape": [8, 8, 8]}, pad=pad, axes="zyx")
        mask = run(volume_of(known), model)
        assert np.array_equal(mask.array, known)
        assert model.fed == [(1, 1, 8, 8, 8)]
        assert mask.facts["padded"]


def test_tidying_is_reported() -> None:
    known = np.zeros((9, 9, 9), np.int16)
    known[1:6, 1:6, 1:6] = 1
    known[3, 3, 3] = 0
    known[8, 8, 8] = 1
    model = model_of(same, largest_component=True, fill_holes=True)
    mask = run(volume_of(known), model)
    assert mask.array.sum() == 125
    assert (mask.facts["voxels_removed"], mask.facts["voxels_filled"]) == (1, 1)
    untouched = run(volume_of(known), model, largest_component=False, fill_holes=False)
    assert np.array_equal(untouched.array, known)
    assert "voxels_removed" not in untouched.facts


def test_clipping_the_source_comes_before_interpolating() -> None:
    volume = volume_of(np.array([0, 1000] * 4, np.int16).reshape(2, 2, 2))
    seen: list[Array] = []

    def watched(image: Array) -> Array:
        seen.append(image.copy())
        return image

    grid = {"kind": "shape", "shape": [1, 1, 1]}
    for of, expected in (("source", 50.0), ("grid", 100.0)):
        run(volume, model_of(watched, grid=grid, intensity={
            "method": "ct", "of": of, "low": 0, "high": 100, "mean": 0, "std": 1,
        }))  # fmt: skip
        assert seen[-1].item() == pytest.approx(expected)


def test_warnings_tell_of_masked_volumes_and_other_modalities() -> None:
    array = np.zeros((8, 8, 8), np.int16)
    array[3:5, 3:5, 3:5] = 1
    model = model_of(same, modality="MR", warn_zero_fraction=0.7)
    warnings = run(volume_of(array, modality="CT"), model).facts["warnings"]
    assert len(warnings) == 2
    assert "CT" in warnings[0]
    assert "zero" in warnings[1]
    assert run(volume_of(array + 1, modality="MR"), model).facts["warnings"] == []


@pytest.mark.parametrize(
    ("wish", "pipeline"),
    [
        ({"threshold": 0.3}, {"decide": {"method": "argmax"}}),
        ({"overlap": 0.3}, {}),
        ({"mirror": True}, {}),
        ({"labels": [7]}, {}),
    ],
)
def test_a_wish_that_the_model_cannot_follow_is_refused_by_name(wish: dict[str, Any], pipeline: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        run(volume_of(np.zeros((3, 3, 3), np.int16)), model_of(same, **pipeline), **wish)
    assert caught.value.errors[0]["pointer"] == f"/params/{next(iter(wish))}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "dicom"), ("threshold", 0), ("threshold", 1), ("overlap", 0.95), ("labels", []), ("labels", [0]),
        ("series_uid", "../x"), ("colour", "red"),
    ],
)  # fmt: skip
def test_wishes_outside_their_bounds_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        TASK.Params.model_validate({field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_every_wish_is_described() -> None:
    assert all(wish.get("description") for wish in TASK.Params.model_json_schema()["properties"].values())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"grid": {"kind": "shape", "shape": [0, 8, 8]}}, ("grid", "shape", "shape", 0)),
        ({"grid": {"kind": "spacing", "spacing_mm": [1, 1]}}, ("grid", "spacing", "spacing_mm", 2)),
        ({"axes": "RAX"}, ("axes",)),
        ({"mirror_axes": [1, 1]}, ("mirror_axes",)),
        ({"run": {"mode": "windows", "shape": [8, 8, 8], "overlap": 1}}, ("run", "windows", "overlap")),
        ({"intensity": {"method": "ct", "low": 5, "high": 1, "mean": 0, "std": 1}}, ("intensity", "ct")),
        ({"decide": {"method": "threshold", "threshold": 2}}, ("decide", "threshold", "threshold")),
        ({"flip": True}, ("flip",)),
    ],
)
def test_a_fault_in_the_settings_names_its_field(change: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        TASK.Settings.model_validate(IDENTITY | change)
    assert place in [error["loc"] for error in caught.value.errors()]


def graph(shape: tuple[int, ...], out: tuple[int, ...], dtype: str = "f4", **pipeline: Any) -> FunctionModel:
    model = model_of(same, **pipeline)
    model.inputs = (Tensor("image", np.dtype(dtype), shape),)
    model.outputs = (Tensor("scores", np.dtype("f4"), out),)
    return model


FREE = (-1, 1, -1, -1, -1)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (graph((-1, 3, -1, -1, -1), FREE), "3 channels"),
        (graph((-1, 3, -1, -1), FREE), "4 dimensions"),
        (graph(FREE, FREE, "i8"), "int64"),
        (graph((2, 1, -1, -1, -1), FREE), "batch of 2"),
        (graph(FREE, (-1, 4, -1, -1, -1)), "has 4 channels"),
        (graph(FREE, FREE, decide={"method": "argmax"}, scores="logits"), "has 1 channels"),
        (graph(FREE, FREE, output="logits"), "pipeline.output"),
        (graph((1, 1, 96, -1, -1), FREE), "varies"),
        (graph((1, 1, 96, 96, 96), FREE, run={"mode": "windows", "shape": [96, 96, 64]}), "axis 4 at 96"),
        (graph(FREE, FREE, decide={"method": "threshold", "regions": [{"channel": 0, "label": 5}]}), "label 5"),
    ],
)
def test_a_graph_that_does_not_fit_is_told_in_a_sentence(model: FunctionModel, said: str) -> None:
    sentences = list(TASK.check(model))
    assert len(sentences) == 1
    assert said in sentences[0]


def test_a_graph_that_fits_is_told_nothing() -> None:
    assert list(TASK.check(graph(FREE, FREE))) == []
    windows = {"mode": "windows", "shape": [96, 96, 96]}
    assert list(TASK.check(graph((1, 1, 96, 96, 96), (1, 1, 96, 96, 96), run=windows))) == []


def test_labels_with_a_gap_do_not_fit_argmax() -> None:
    model = graph(FREE, (-1, 4, -1, -1, -1), decide={"method": "argmax"}, scores="logits")
    model.labels = {1: "a", 3: "c"}
    assert "does not name 2" in "".join(TASK.check(model))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_no_empty_mask(wrong: float) -> None:
    with pytest.raises(ModelError) as caught:
        run(volume_of(np.zeros((3, 3, 3), np.int16)), model_of(lambda image: image + np.float32(wrong)))
    assert caught.value.code == "non-finite-scores"


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        run(volume_of(np.zeros((4, 4, 4), np.int16)), model_of(lambda image: image[:, :, ::2]))
    assert caught.value.code == "unexpected-output-shape"


def test_a_spacing_that_would_make_a_giant_grid_is_refused() -> None:
    volume = volume_of(np.zeros((4, 4, 4), np.int16), spacing=(1000.0, 1000.0, 1000.0))
    with pytest.raises(InputTooLarge) as caught:
        run(volume, model_of(same, grid={"kind": "spacing", "spacing_mm": [0.5, 0.5, 0.5]}))
    assert caught.value.code == "grid-too-large"


def test_half_precision_models_are_fed_half_precision() -> None:
    model = graph(FREE, FREE, "f2")
    seen: list[np.dtype[Any]] = []

    def watched(image: Array) -> Array:
        seen.append(image.dtype)
        return image

    model.function = watched
    known = np.eye(4, dtype=np.int16)[None].repeat(3, axis=0)
    assert np.array_equal(run(volume_of(known), model).array, known)
    assert seen == [np.dtype(np.float16)]
