"""What a classifier answers, and how its graph is understood."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.contracts import Stage
from fleet.errors import CorruptInput, ModelError, RunStopped, ValidationFailed
from tests.support.classifiers import PREPROCESS, colours, loaded, make_model
from tests.support.kept_parts import KeptParts
from tests.support.ort_model import RecordedProgress
from worker.classification.classifier import Classifier
from worker.classification.settings import ClassificationParams
from worker.contract import Array, Model, Picture
from worker.media.items import encode_items
from worker.pictures.items import Item, Pictures
from worker.pictures.published import of_timm
from worker.tasks.image_classification import TASK

#: Fed as 1, 0.4 and 0.
ORANGE = np.broadcast_to(np.array([255, 102, 0], np.uint8), (16, 16, 3))
Make = Callable[..., Model]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """model(ending, graph options, manifest=...) -> a loaded model."""

    def call(*ending: str, manifest: dict[str, Any] | None = None, **graph: Any) -> Model:
        return loaded(make_model(tmp_path, colours(ending, **graph), **(manifest or {})))

    return call


def one(array: Array = ORANGE, name: str = "a.png") -> Pictures:
    return Pictures([Item(name, lambda admit, check: Picture(array, name))])


def answer(model: Model, media: Pictures | None = None, **params: Any) -> dict[str, Any]:
    outcome = TASK.run(media or one(), ClassificationParams(**params), model, RecordedProgress())
    return encode_items(outcome, Path("/nowhere")).result


def scores(model: Model) -> list[float]:
    by_class = {said["class_id"]: said["confidence"] for said in answer(model)["predictions"]}
    return [by_class[number] for number in sorted(by_class)]


def softmax(*numbers: float) -> list[float]:
    raised = np.exp(np.array(numbers))
    return [float(value) for value in raised / raised.sum()]


def test_the_best_class_comes_first(make: Make) -> None:
    said = answer(make())
    assert [entry["class_name"] for entry in said["predictions"]] == ["red", "green", "blue"]
    assert said["top_class"] == "red"
    assert said["top_confidence"] == said["predictions"][0]["confidence"] == pytest.approx(softmax(1, 0.4, 0)[0])
    assert said["multi_label"] is False


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ((), softmax(1, 0.4, 0)),
        (("Softmax",), softmax(1, 0.4, 0)),
        (("Softmax", "Identity"), softmax(1, 0.4, 0)),
        (("LogSoftmax",), softmax(1, 0.4, 0)),
        (("Exp", "ReduceL1", "Div"), softmax(1, 0.4, 0)),
        (("Sigmoid",), [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-0.4)), 0.5]),
        (("Relu",), softmax(1, 0.4, 0)),
    ],
)
def test_scores_are_made_once_wherever_the_graph_ends(
    make: Make, ending: tuple[str, ...], expected: list[float]
) -> None:
    assert scores(make(*ending)) == pytest.approx(expected, abs=1e-6)


def test_a_sigmoid_in_the_graph_means_that_several_may_be_true(make: Make) -> None:
    assert answer(make("Sigmoid"))["multi_label"] is True


def test_an_only_class_is_a_question_of_yes_or_no(make: Make) -> None:
    assert scores(make(classes=1, manifest={"labels": {0: "red"}})) == pytest.approx([1 / (1 + np.exp(-1))])


@pytest.mark.parametrize(
    "manifest",
    [
        {"pipeline": {"preprocess": PREPROCESS, "multi_label": True}},
        {"files": {"config.json": '{"problem_type": "multi_label_classification"}'}},
    ],
)
def test_several_labels_are_scored_each_on_its_own(make: Make, manifest: dict[str, Any]) -> None:
    model = make(manifest=manifest)
    assert scores(model) == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-0.4)), 0.5])
    assert answer(model)["multi_label"] is True


def test_large_numbers_do_not_overflow(make: Make) -> None:
    assert scores(make(gain=1e4)) == pytest.approx([1, 0, 0])


def test_the_author_has_the_last_word_on_scores(make: Make) -> None:
    model = make(manifest={"pipeline": {"preprocess": PREPROCESS, "activation": "none"}})
    assert scores(model) == pytest.approx([1, 0.4, 0])


def test_a_request_says_how_many_and_how_sure(make: Make) -> None:
    model = make("Sigmoid")
    assert len(answer(model, top_k=2)["predictions"]) == 2
    assert [said["class_name"] for said in answer(model, confidence=0.55)["predictions"]] == ["red", "green"]
    nothing = answer(model, confidence=0.99)
    assert nothing["predictions"] == []
    assert nothing["top_class"] is None


def test_classes_can_be_called_something_else(make: Make) -> None:
    model = make()
    said = answer(model, class_mapping={"0": "rouge", "green": "vert"})
    assert [entry["class_name"] for entry in said["predictions"]] == ["rouge", "vert", "blue"]
    with pytest.raises(ValidationFailed) as caught:
        answer(model, class_mapping={"purple": "x"})
    assert caught.value.code == "class-unknown"


def test_a_name_that_looks_like_a_number_is_a_name(make: Make) -> None:
    """As in detection: the class that is called so, and not the one of that number as well."""
    said = answer(make(manifest={"labels": {0: "1", 1: "2", 2: "0"}}), class_mapping={"1": "one"})
    names = {entry["class_id"]: entry["class_name"] for entry in said["predictions"]}
    assert names == {0: "one", 1: "2", 2: "0"}


@pytest.mark.parametrize(
    ("dtype", "colours_last", "gain"),
    [(np.float16, False, 1.0), (np.float32, True, 1.0), (np.uint8, False, 1 / 255), (np.uint8, True, 1 / 255)],
)
def test_every_form_of_input_is_fed(make: Make, dtype: Any, colours_last: bool, gain: float) -> None:
    """Of bytes the graph makes shares by itself."""
    model = make(dtype=dtype, colours_last=colours_last, gain=gain)
    assert scores(model) == pytest.approx(softmax(1, 0.4, 0), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '["rot", "gruen", "blau"]'),
        ("labels.json", '{"0": "rot", "1": "gruen", "2": "blau"}'),
        ("config.json", '{"id2label": {"0": "rot", "1": "gruen", "2": "blau"}}'),
        ("config.json", '{"label_names": ["rot", "gruen", "blau"]}'),
    ],
)
def test_names_are_read_from_the_publisher(make: Make, name: str, content: str) -> None:
    assert answer(make(manifest={"labels": {}, "files": {name: content}}))["top_class"] == "rot"


def test_names_are_read_from_a_text_of_lines(make: Make) -> None:
    manifest = {
        "labels": {},
        "files": {"names.txt": "rot\ngruen\nblau\n"},
        "pipeline": {"preprocess": PREPROCESS, "labels": "names.txt"},
    }
    assert answer(make(manifest=manifest))["top_class"] == "rot"


def test_a_class_without_a_name_is_a_number(make: Make) -> None:
    model = make(manifest={"labels": {}})
    assert answer(model)["top_class"] == "class 0"
    assert list(TASK.check(model)) == []


@pytest.mark.parametrize(
    ("labels", "told"), [({7: "x"}, "a name for class 7"), ({0: "x"}, "2 of the graph's 3 classes")]
)
def test_names_that_do_not_fit_are_told(make: Make, labels: dict[int, str], told: str) -> None:
    assert told in next(iter(TASK.check(make(manifest={"labels": labels}))))


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 16, "width": 16},
    "image_mean": [0, 0, 0],
    "image_std": [1, 1, 1],
}
PADDING = PROCESSOR | {"do_pad": True}
TIMM = {"pretrained_cfg": {"input_size": [3, 16, 16], "mean": [0, 0, 0], "std": [1, 1, 1], "crop_pct": 0.9}}
ULTRALYTICS = {"task": "classify", "names": {0: "a", 1: "b", 2: "c"}, "stride": 1, "imgsz": [16, 16]}


@pytest.mark.parametrize(
    ("files", "metadata"),
    [
        ({"preprocessor_config.json": json.dumps(PROCESSOR)}, {}),
        ({"config.json": json.dumps(TIMM)}, {}),
        ({"config.json": json.dumps(TIMM["pretrained_cfg"])}, {}),
        ({}, ULTRALYTICS),
    ],
)
def test_the_recipe_is_read_from_the_publisher(make: Make, files: dict[str, str], metadata: dict[str, Any]) -> None:
    model = make(manifest={"pipeline": {}, "files": files}, metadata=metadata)
    assert scores(model) == pytest.approx(softmax(1, 0.4, 0), abs=1e-6)


def test_what_a_file_of_timm_does_not_say_is_what_timm_does() -> None:
    recipe = of_timm({"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}, "").recipe
    assert (recipe.kernel, recipe.size, recipe.crop) == ("bicubic", 256, (224, 224))


def test_a_recipe_of_timm_is_its_own_rule() -> None:
    recipe = of_timm({"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}, "").recipe
    assert (recipe.resize, recipe.size, recipe.crop, recipe.centre) == ("shortest-edge", 248, (224, 224), "round")
    squashed = {"input_size": [3, 200, 100], "mean": [0] * 3, "std": [1] * 3, "crop_pct": 1.0, "crop_mode": "squash"}
    assert of_timm(squashed, "").recipe.stretched == (200, 100)


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        ({"pipeline": {}}, "preprocess-unknown"),
        ({"pipeline": {"preprocess": {"resize": "stretch", "size": 9}}}, "preprocess-mismatch"),
        ({"pipeline": {"preprocess": {"resize": "none"}}}, "preprocess-mismatch"),
        ({"pipeline": {}, "files": {"preprocessor_config.json": "{"}}, "publisher-file-invalid"),
        (
            {"pipeline": {}, "files": {"preprocessor_config.json": '{"image_processor_type": "DonutImageProcessor"}'}},
            "preprocess-unknown",
        ),
        ({"pipeline": {}, "files": {"preprocessor_config.json": json.dumps(PADDING)}}, "preprocess-unknown"),
        ({"pipeline": {"preprocess": PREPROCESS, "output": "scores"}}, "unknown-output"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_understood_is_refused(make: Make, manifest: dict[str, Any], code: str) -> None:
    model = make(manifest=manifest)
    with pytest.raises(ModelError) as caught:
        model.derived(Classifier)
    assert caught.value.code == code
    assert list(TASK.check(model)) == [caught.value.message]


@pytest.mark.parametrize(
    ("graph", "code"), [({"outputs": ("a", "b")}, "unknown-output"), ({"batch": 4}, "fixed-batch")]
)
def test_a_graph_that_fits_no_classifier_is_refused(make: Make, graph: dict[str, Any], code: str) -> None:
    with pytest.raises(ModelError) as caught:
        make(**graph).derived(Classifier)
    assert caught.value.code == code


def test_what_was_found_is_told(make: Make) -> None:
    assert TASK.told(make()) == [
        "3 classes, named, one is true; scores by softmax",
        "input pixel_values: stretch 16 (bilinear), mean 0/0/0, std 1/1/1, RGB (said by model.yaml)",
    ]


def broken(admit: Any, check: Any) -> Picture:
    raise CorruptInput("the picture is damaged", code="corrupt-picture")


def test_one_bad_picture_of_many_fails_alone(make: Make) -> None:
    good = one().items[0]
    media = Pictures([good, Item("b.png", broken), Item("c.png", good.read)], many=True)
    said = answer(make(), media)
    assert (said["count"], said["succeeded"], said["failed"]) == (3, 2, 1)
    assert [item["index"] for item in said["items"]] == [0, 1, 2]
    assert said["items"][0]["result"]["top_class"] == said["items"][2]["result"]["top_class"] == "red"
    assert said["items"][1] == {
        "index": 1,
        "name": "b.png",
        "error": {"code": "corrupt-picture", "detail": "the picture is damaged"},
    }


def test_the_only_bad_picture_fails_the_job(make: Make) -> None:
    with pytest.raises(CorruptInput):
        answer(make(), Pictures([Item("b.png", broken)]))


def test_progress_is_told_for_each_picture(make: Make) -> None:
    progress = RecordedProgress()
    TASK.run(Pictures([one().items[0]] * 5, many=True), ClassificationParams(), make(), progress)
    assert progress.steps == [(number, 5) for number in range(6)]
    assert progress.stages == [Stage.INFER]


def test_the_only_picture_shows_its_stages(make: Make) -> None:
    progress = RecordedProgress()
    TASK.run(one(), ClassificationParams(), make(), progress)
    assert progress.stages == [Stage.DECODE, Stage.PREPARE, Stage.INFER, Stage.FINISH]


def test_a_stopped_run_of_many_ends(make: Make) -> None:
    progress = RecordedProgress(stop=RunStopped("cancelled", code="cancelled"))
    with pytest.raises(RunStopped):
        TASK.run(Pictures([one().items[0]] * 50, many=True), ClassificationParams(), make(), progress)


def test_a_long_list_is_an_artifact(make: Make, tmp_path: Path) -> None:
    media = Pictures([one().items[0]] * 1000, many=True)
    encoded = encode_items(TASK.run(media, ClassificationParams(), make(), RecordedProgress()), tmp_path)
    assert encoded.result["artifact"] == "items.jsonl"
    assert "items" not in encoded.result
    lines = [json.loads(line) for line in encoded.files[0].path.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(1000))
    assert lines[999]["result"]["top_class"] == "red"


def test_quality_is_told_on_request(make: Make) -> None:
    model = make()
    assert "quality" not in answer(model)
    quality = answer(model, quality=True)["quality"]
    assert (quality["width"], quality["height"]) == (16, 16)
    assert quality["faults"] == ["small", "blurred", "flat"]


def test_a_later_attempt_makes_only_what_is_missing(make: Make) -> None:
    model, looked_at = make(), []

    def counted(number: int) -> Item:
        def read(admit: Any, check: Any) -> Picture:
            looked_at.append(number)
            return broken(admit, check) if number == 3 else Picture(ORANGE)

        return Item(f"{number}.png", read)

    media = Pictures([counted(number) for number in range(60)], many=True)
    kept = KeptParts(keeps_left=1)
    with pytest.raises(RunStopped):
        TASK.run(media, ClassificationParams(), model, RecordedProgress(kept=kept))
    assert kept.keeps == ["items-000000"]
    looked_at.clear()
    kept.keeps_left = None
    progress = RecordedProgress(kept=kept)
    said = encode_items(TASK.run(media, ClassificationParams(), model, progress), Path("/nowhere")).result
    assert sorted(looked_at) == list(range(25, 60))
    assert progress.steps[0] == (25, 60)
    assert kept.keeps == ["items-000000", "items-000001", "items-000002"]
    whole = encode_items(TASK.run(media, ClassificationParams(), model, RecordedProgress()), Path("/nowhere")).result
    assert said == whole
    assert said["items"][3]["error"]["code"] == "corrupt-picture"
    assert said["failed"] == 1


@pytest.mark.parametrize(("augment", "red"), [("none", 1.0), ("flip", 1.0), ("five-crop", 0.2)])
def test_the_mean_of_several_looks_is_one_of_scores(make: Make, augment: str, red: float) -> None:
    """The middle is red, and what the corners see is mostly green."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :] = (0, 255, 0)
    picture[8:24, 8:24] = (255, 0, 0)
    model = make("Softmax", gain=1000.0, manifest={"pipeline": {"preprocess": {"resize": "none", "crop": 16}}})
    said = answer(model, one(picture), augment=augment)["predictions"]
    assert {entry["class_name"]: entry["confidence"] for entry in said} == pytest.approx(
        {"red": red, "green": 1 - red, "blue": 0}
    )


def test_a_graph_of_one_picture_a_run_looks_several_times(make: Make) -> None:
    model = make(batch=1)
    assert answer(model, augment="flip") == answer(model)


def test_there_are_no_corners_where_nothing_is_cut_off(make: Make) -> None:
    with pytest.raises(ValidationFailed) as caught:
        answer(make(), augment="five-crop")
    assert caught.value.code == "views-unsupported"
