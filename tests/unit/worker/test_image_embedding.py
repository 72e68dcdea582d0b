"""What an image embedding answers: what libraries did that benchmarks/reference_image_embedding.py has asked."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from fleet.errors import CorruptInput, ModelError, ValidationFailed
from tests.support.image_embedders import loaded, names, reference, unpacked
from worker.contract import Array, Encoded, Model, Picture
from worker.embedding.answers import of_texts
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.settings import ImageEmbeddingParams
from worker.media.items import encode_items
from worker.pictures.items import Item, Pictures
from worker.progress import JobProgress
from worker.stop import StopToken
from worker.tasks.image_embedding import TASK

EXAMPLES = Path(__file__).resolve().parents[3] / "models" / "efficientnet-lite0" / "example"
PHOTOGRAPHS = [EXAMPLES / "cat.jpg", EXAMPLES / "coffee.jpg"]
LEAST_COSINE = 0.99999


def pixels(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"))


def items(*arrays: Array) -> Pictures:
    listed = [
        Item(f"{number}.png", lambda admit, check, array=array: Picture(array)) for number, array in enumerate(arrays)
    ]
    return Pictures(listed, many=len(listed) != 1)


def encoded(model: Model, folder: Path, media: Pictures, **params: Any) -> Encoded:
    progress = JobProgress(StopToken(), folder)
    return encode_items(TASK.run(media, ImageEmbeddingParams(**params), model, progress), folder)


def vector(model: Model, folder: Path, array: Array, **params: Any) -> Array:
    return np.array(encoded(model, folder, items(array), **params).result["embedding"])


def cosine(one: Any, other: Any) -> float:
    mine, theirs = np.array(one, np.float64), np.array(other, np.float64)
    return float(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(unpacked("clip-towers", tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(unpacked("siglip-towers", tmp_path_factory.mktemp("siglip")))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(unpacked("dinov2", tmp_path_factory.mktemp("dinov2")))


@pytest.mark.parametrize("name", names())
def test_vectors_and_scores_are_those_of_the_library(tmp_path: Path, name: str) -> None:
    model, said = loaded(unpacked(name, tmp_path)), reference(name)
    assert list(TASK.check(model)) == []
    for photograph in PHOTOGRAPHS:
        theirs, picture = said["pictures"][photograph.name], pixels(photograph)
        mine = vector(model, tmp_path, picture, normalize=False)
        assert cosine(mine, theirs["vector"]) >= LEAST_COSINE
        np.testing.assert_allclose(mine, theirs["vector"], rtol=0, atol=1e-4 * np.abs(theirs["vector"]).max())
        for key, params in (("flip", {"augment": "flip"}), ("scaled", {"scales": said["scales"]})):
            if theirs.get(key):
                assert cosine(vector(model, tmp_path, picture, **params), theirs[key]) >= LEAST_COSINE
        if said["scores"]:
            asked = {"labels": said["labels"], "template": said["template"]}
            result = encoded(model, tmp_path, items(picture), **asked).result
            scores = {one["class_id"]: one["confidence"] for one in result["predictions"]}
            assert [scores[at] for at in range(len(scores))] == pytest.approx(said["scores"][photograph.name], abs=1e-4)


@pytest.mark.parametrize("name", [name for name in names() if "texts" in reference(name)])
def test_vectors_of_texts_are_those_of_the_library(tmp_path: Path, name: str) -> None:
    model, said = loaded(unpacked(name, tmp_path)), reference(name)
    told = encoded(model, tmp_path, items(), texts=said["texts"], normalize=False).result
    assert (told["count"], told["items"]) == (0, [])
    texts = told["texts"]
    assert (texts["count"], texts["normalized"], texts["truncated"]) == (len(said["texts"]), False, 0)
    for mine, theirs in zip(texts["embeddings"], said["text_vectors"], strict=True):
        assert cosine(mine, theirs) >= LEAST_COSINE


def test_an_answer_says_what_its_vector_is(clip: Model, tmp_path: Path) -> None:
    result = encoded(clip, tmp_path, items(pixels(PHOTOGRAPHS[0]))).result
    assert result.keys() == {"embedding", "embedding_dim", "normalized"}
    assert (result["embedding_dim"], len(result["embedding"]), result["normalized"]) == (12, 12, True)
    assert np.linalg.norm(result["embedding"]) == pytest.approx(1, abs=1e-6)
    raw = encoded(clip, tmp_path, items(pixels(PHOTOGRAPHS[0])), normalize=False).result
    assert raw["normalized"] is False
    assert abs(np.linalg.norm(raw["embedding"]) - 1) > 0.01


def test_a_graph_that_normalises_by_itself_is_told_so(tmp_path: Path) -> None:
    model = loaded(unpacked("clip-joint", tmp_path))
    assert encoded(model, tmp_path, items(pixels(PHOTOGRAPHS[0])), normalize=False).result["normalized"] is True
    assert "vectors of 12 numbers, one unit long by themselves: image_embeds, as it is" in TASK.told(model)


def test_a_larger_scale_of_a_graph_of_one_size_is_the_mean_of_the_parts(clip: Model, tmp_path: Path) -> None:
    picture = pixels(PHOTOGRAPHS[1])[:300, :400]
    parts = [picture[:150, :200], picture[:150, 200:], picture[150:, :200], picture[150:, 200:]]
    expected = np.mean([vector(clip, tmp_path, part) for part in parts], axis=0)
    assert cosine(vector(clip, tmp_path, picture, scales=[2]), expected) == pytest.approx(1, abs=1e-9)
    whole = vector(clip, tmp_path, picture)
    assert cosine(vector(clip, tmp_path, picture, scales=[1, 2]), whole + expected) == pytest.approx(1, abs=1e-9)


def test_corners_and_the_middle_count_the_same(dinov2: Model, tmp_path: Path) -> None:
    square = pixels(PHOTOGRAPHS[0])[:80, :80]
    corners = [square[:70, :70], square[:70, 10:], square[10:, :70], square[10:, 10:], square[5:75, 5:75]]
    # 80 × 80 is what the recipe makes of them, so that nothing is resized: what is cut out is set in the middle.
    framed = [np.pad(corner, ((5, 5), (5, 5), (0, 0))) for corner in corners]
    expected = np.mean([vector(dinov2, tmp_path, frame) for frame in framed], axis=0)
    assert cosine(vector(dinov2, tmp_path, square, augment="five-crop"), expected) == pytest.approx(1, abs=1e-9)


def test_many_vectors_are_rows_of_one_file(clip: Model, tmp_path: Path) -> None:
    def broken(admit: Any, check: Any) -> Picture:
        raise CorruptInput("cut off", code="corrupt-picture")

    good = [pixels(path) for path in PHOTOGRAPHS]
    media = items(*good)
    media = Pictures([media.items[0], Item("broken.png", broken), media.items[1]], many=True)
    made = encoded(clip, tmp_path, media, vectors="npy")
    assert made.result["embeddings"] == {
        "artifact": "embeddings.npy", "count": 2, "dimensions": 12, "normalized": True,
    }  # fmt: skip
    assert [item.get("result", item.get("error", {}))["row" if "result" in item else "code"] for item in
            made.result["items"]] == [0, "corrupt-picture", 1]  # fmt: skip
    assert [file.name for file in made.files] == ["embeddings.npy"]
    rows = np.load(made.files[0].path)
    assert rows.dtype == np.float32
    for row, picture in zip(rows, good, strict=True):
        np.testing.assert_array_equal(row, np.float32(vector(clip, tmp_path, picture)))


def test_vectors_go_to_a_file_when_they_are_more_than_a_record_holds(clip: Model, tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    few = encoded(clip, tmp_path, items(*[picture] * 3)).result
    assert "embeddings" not in few
    assert len(few["items"][2]["result"]["embedding"]) == 12
    # 64 KiB hold 1,365 vectors of 12 numbers.
    form = encoded(clip, tmp_path, items(*[picture] * 1366)).result
    assert form["embeddings"]["count"] == 1366


def test_answers_that_are_kept_while_a_job_goes_on_have_their_vectors(clip: Model, tmp_path: Path) -> None:
    """A later attempt makes the file of what an earlier one has kept."""
    kept: dict[str, bytes] = {}

    class Parts:
        found = False

        def read(self, name: str) -> bytes | None:
            return kept.get(name)

        def keep(self, name: str, content: bytes) -> None:
            kept[name] = content

    pictures = [np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 240, 8)]
    progress = JobProgress(StopToken(), tmp_path)
    progress.keeping = lambda hinges_on: Parts()
    params = ImageEmbeddingParams(vectors="npy")
    first = encode_items(TASK.run(items(*pictures), params, clip, progress), tmp_path)
    rows = np.load(first.files[0].path).copy()
    line = json.loads(kept["items-000000"].splitlines()[3])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(line["result"]["embedding"]), "<f4"), rows[3])

    def never(admit: Any, check: Any) -> Picture:
        raise AssertionError("it was made before")

    again = Pictures([Item(f"{number}.png", never) for number in range(len(pictures))], many=True)
    second = encode_items(TASK.run(again, params, clip, progress), tmp_path)
    np.testing.assert_array_equal(np.load(second.files[0].path), rows)


def test_many_texts_are_rows_of_a_file(siglip: Model, tmp_path: Path) -> None:
    texts = [f"{number} cats" for number in range(1000)]
    few = encoded(siglip, tmp_path, items(), texts=texts[:10]).result["texts"]["embeddings"]
    # Of 16 numbers each 1,024 fit into the record.
    wide = np.tile(np.float32(few), (100, 2))
    told, files = of_texts(wide, np.ones(1000, np.int32), 0, JobProgress(StopToken(), tmp_path), normalized=True)
    assert (told["artifact"], told["count"], "embeddings" in told) == ("text_embeddings.npy", 1000, False)
    np.testing.assert_array_equal(np.load(files[0].path), wide)


def test_labels_are_judged_best_first_and_vectors_left_out(siglip: Model, tmp_path: Path) -> None:
    picture = items(pixels(PHOTOGRAPHS[0]))
    result = encoded(siglip, tmp_path, picture, labels=["cat", "dog", "bird"], top_k=2, template="{}").result
    assert result.keys() == {"predictions", "top_class", "top_confidence", "multi_label"}
    confidences = [one["confidence"] for one in result["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert (len(confidences), result["multi_label"]) == (2, True)
    assert result["top_class"] == result["predictions"][0]["class_name"]
    none = encoded(siglip, tmp_path, picture, labels=["cat", "dog"], confidence=1).result
    assert (none["predictions"], none["top_class"], none["top_confidence"]) == ([], None, None)
    both = encoded(siglip, tmp_path, picture, labels=["cat"], vectors="json").result
    assert {"embedding", "predictions"} <= both.keys()


def test_scores_of_clip_are_shares_of_one(clip: Model, tmp_path: Path) -> None:
    result = encoded(clip, tmp_path, items(pixels(PHOTOGRAPHS[0])), labels=["cat", "dog", "bird"]).result
    assert sum(one["confidence"] for one in result["predictions"]) == pytest.approx(1)
    assert result["multi_label"] is False


def test_a_text_has_the_same_vector_whoever_is_beside_it(clip: Model, siglip: Model, tmp_path: Path) -> None:
    texts = ["cat", "a photo of many cats on a long sofa", "x", "coffee"]
    for model in (clip, siglip):
        together = encoded(model, tmp_path, items(), texts=texts).result["texts"]["embeddings"]
        fresh = loaded(unpacked(model.name, tmp_path / "fresh" / model.name))
        for text, expected in zip(texts, together, strict=True):
            alone = encoded(fresh, tmp_path, items(), texts=[text]).result["texts"]["embeddings"][0]
            np.testing.assert_allclose(alone, expected, atol=1e-6)


LONG = "word " * 40


@pytest.mark.parametrize(
    ("name", "params", "code", "pointer"),
    [
        ("clip-towers", {"labels": []}, "input-empty", "#/params/labels"),
        ("clip-towers", {"labels": ["a", "b", "a"]}, "labels-repeated", "#/params/labels/2"),
        ("clip-towers", {"labels": ["a"], "template": "no place"}, "template-invalid", "#/params/template"),
        ("clip-towers", {"labels": ["a", LONG]}, "text-too-long", "#/params/labels/1"),
        ("clip-towers", {"texts": []}, "input-empty", "#/params/texts"),
        ("clip-towers", {"texts": [LONG]}, "text-too-long", "#/params/texts/0"),
        ("clip-towers", {"scales": [1, 0.5]}, "scales-unsupported", "#/params/scales/1"),
        ("siglip-towers", {"augment": "five-crop"}, "views-unsupported", "#/params/augment"),
        ("dinov2", {"labels": ["a"]}, "texts-unsupported", "#/params/labels"),
        ("dinov2", {"texts": ["a"]}, "texts-unsupported", "#/params/texts"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    tmp_path: Path, name: str, params: dict[str, Any], code: str, pointer: str
) -> None:
    model = loaded(unpacked(name, tmp_path))
    with pytest.raises(ValidationFailed) as caught:
        encoded(model, tmp_path, items(np.zeros((9, 9, 3), np.uint8)), **params)
    assert (caught.value.code, caught.value.facts["pointer"]) == (code, pointer)


def test_labels_without_pictures_are_refused_also_beside_texts(clip: Model, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="send pictures") as caught:
        encoded(clip, tmp_path, items(), texts=["cat"], labels=["cat", "dog"])
    assert (caught.value.code, caught.value.facts["pointer"]) == ("labels-without-pictures", "#/params/labels")


@pytest.mark.parametrize("truncate", ["end", "start"])
def test_a_text_that_is_too_long_may_be_cut(clip: Model, tmp_path: Path, truncate: str) -> None:
    texts = encoded(clip, tmp_path, items(), texts=[LONG, "cat"], truncate=truncate).result["texts"]
    assert (texts["truncated"], texts["tokens"][0]) == (1, 64)


def test_a_larger_look_is_granted_more_memory(dinov2: Model) -> None:
    """Four times the side are sixteen times the patches."""
    embedder, progress = dinov2.derived(ImageEmbedder), JobProgress(StopToken())
    needs = [embedder.run_bytes(ImageEmbeddingParams(scales=[scale]), dinov2, progress) for scale in (1, 2, 4)]
    assert needs[0] < needs[1] / 3 < needs[2] / 9


@pytest.mark.parametrize("scale", [0.5, 1.6, 3.01])
def test_any_scale_feeds_whole_patches(dinov2: Model, tmp_path: Path, scale: float) -> None:
    picture = pixels(PHOTOGRAPHS[0])
    one = vector(dinov2, tmp_path, picture, scales=[scale])
    assert 0.5 < cosine(one, vector(dinov2, tmp_path, picture)) < 1 - 1e-6


def test_a_graph_that_only_declares_any_size_looks_at_parts(tmp_path: Path) -> None:
    folder = unpacked("clip-towers", tmp_path)
    path = folder / "1" / "vision.onnx"
    graph = onnx.load(path)
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side-{axis}"
    onnx.save(graph, path)
    free, fixed = loaded(folder), loaded(unpacked("clip-towers", tmp_path / "fixed"))
    picture = pixels(PHOTOGRAPHS[0])
    np.testing.assert_array_equal(
        vector(free, tmp_path, picture, scales=[2]), vector(fixed, tmp_path, picture, scales=[2])
    )


def test_memory_that_ran_out_says_nothing_of_the_sizes_that_a_graph_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, picture = loaded(unpacked("dinov2", tmp_path)), pixels(PHOTOGRAPHS[0])
    embedder = model.derived(ImageEmbedder)
    run, faults = embedder.run, [ModelError("the model ran out of memory", code="inference-out-of-memory")]

    def once_short_of_memory(numbers: Array, model: Model) -> dict[str, Array]:
        if faults:
            raise faults.pop()
        return run(numbers, model)

    monkeypatch.setattr(embedder, "run", once_short_of_memory)
    with pytest.raises(ModelError, match="out of memory"):
        vector(model, tmp_path, picture, scales=[0.5])
    assert len(vector(model, tmp_path, picture, scales=[0.5])) == embedder.width
