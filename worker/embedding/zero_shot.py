"""Which of some labels a picture shows, by the cosine of its vector and theirs: scores as CLIP and SigLIP make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleet.embeddings import fault, parse_texts
from fleet.errors import ModelError
from worker.contract import Array, Model
from worker.embedding.embedder import ImageEmbedder
from worker.embedding.settings import Activation, ImageEmbeddingParams
from worker.embedding.text_tower import TextTower
from worker.embedding.units import units

_WORDS = ("a photo of a cat", "two dogs", "red", "a city at night, seen from above", "1", "text")
_LOGITS = "logits_per_image"
#: A bias below it is none: what a line through numbers of single precision leaves.
_LEAST_BIAS = 1e-2
_WHERE = "#/params/labels"


class Similarity:
    """activation(scale * cosine + bias) of one loaded model: `model.derived(Similarity)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError `zero-shot-unknown`, and as TextTower."""
        embedder = model.derived(ImageEmbedder)
        said = embedder.settings.zero_shot
        scale, bias, self.source = said.scale, said.bias, "model.yaml"
        if scale is None and embedder.towers.joint:
            scale, bias, self.source = *_measured(embedder, model.derived(TextTower), model), "the graph's own logits"
        if scale is None:
            raise ModelError(
                "the scale of cosines is not known: it is a weight of the training that two towers do not carry. Say "
                "it in model.yaml as pipeline.zero_shot.scale (100 for OpenAI's CLIP), for SigLIP with its bias",
                code="zero-shot-unknown",
            )
        self.scale, self.bias = scale, bias or 0.0
        self.activation: Activation | None = said.activation
        if self.activation is None:
            families: dict[str, Activation] = {"clip": "softmax", "siglip": "sigmoid"}
            self.activation = next((it for name, it in families.items() if embedder.family.startswith(name)), None)
        if self.activation is None and self.bias:
            self.activation = "sigmoid"
        if self.activation is None:
            raise ModelError(
                "whether the scores of labels are a softmax over all, as CLIP's, or a sigmoid of each, as SigLIP's, is "
                "not known: say it in model.yaml as pipeline.zero_shot.activation",
                code="zero-shot-unknown",
            )
        if self.activation == "sigmoid" and bias is None:
            raise ModelError(
                "scores by sigmoid need the bias that the model was trained with: say it in model.yaml as "
                "pipeline.zero_shot.bias",
                code="zero-shot-unknown",
            )

    def scores(self, cosines: Array) -> Array:
        """float64 [labels] -> float64 [labels]."""
        logits = cosines * self.scale + self.bias
        if self.activation == "sigmoid":
            shares: Array = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
            return shares
        raised: Array = np.exp(logits - logits.max())
        raised /= raised.sum()
        return raised

    def told(self) -> str:
        """For who checks a model."""
        formula = f"{self.activation}({self.scale:.4g} · cosine {self.bias:+.4g})"
        return f"labels are scored by {formula} (said by {self.source})"


@dataclass(frozen=True)
class Labels:
    """Of one job: their names, and their vectors of one unit, float32 [labels, width]."""

    names: Sequence[str]
    vectors: Array
    similarity: Similarity
    top_k: int
    #: Of a score that is told.
    least: float

    def judged(self, vector: Array) -> dict[str, Any]:
        """What the picture of that vector shows, best first, in the form of a classification's answer."""
        unit = units(vector[None])[0]
        scores = self.similarity.scores(self.vectors.astype(np.float64) @ unit.astype(np.float64))
        best = np.argsort(-scores, kind="stable")[: self.top_k]
        predictions = [
            {"class_name": self.names[at], "class_id": int(at), "confidence": float(scores[at])}
            for at in best
            if scores[at] >= self.least
        ]
        top = predictions[0] if predictions else {"class_name": None, "confidence": None}
        return {
            "predictions": predictions,
            "top_class": top["class_name"],
            "top_confidence": top["confidence"],
            "multi_label": self.similarity.activation == "sigmoid",
        }


def labels_of(params: ImageEmbeddingParams, model: Model) -> Labels | None:
    """None where a request has none.

    Raises ValidationFailed: `input-empty`, `labels-repeated`, `template-invalid`, `text-too-long`, and ModelError.
    """
    if params.labels is None:
        return None
    names = [str(name) for name in parse_texts(params.labels, _WHERE)]
    if repeated := next((n for n, name in enumerate(names) if name in names[:n]), None):
        raise fault(
            f"the label {names[repeated]!r} is given twice", code="labels-repeated", where=f"{_WHERE}/{repeated}"
        )
    tower, similarity = model.derived(TextTower), model.derived(Similarity)
    template = params.template or model.derived(ImageEmbedder).settings.zero_shot.template
    if "{}" not in template:
        raise fault(
            f"the template {template!r} has no {{}} in it, where the label goes",
            code="template-invalid",
            where="#/params/template",
        )
    texts = [template.replace("{}", name) for name in names]
    made = tower.embed(texts, params.truncate, lambda number: f"{_WHERE}/{number}", model)
    vectors = units(made.vectors)
    return Labels(names, vectors, similarity, params.top_k or len(names), params.confidence or 0.0)


def _measured(embedder: ImageEmbedder, tower: TextTower, model: Model) -> tuple[float | None, float | None]:
    """Scale and bias, from what a graph that is both towers makes of a few pictures and texts."""
    graph = model.graphs[embedder.towers.image]
    if _LOGITS not in [tensor.name for tensor in graph.outputs]:
        return None, None
    noise = embedder.noise()
    ids = tower.tokenizer.tokenize(list(_WORDS), "end", str).ids
    cosines, logits = [], []
    for picture in (noise, noise // 4, 255 - noise // 2):
        numbers = embedder.feed.numbers([picture])
        for text in ids:
            outputs = tower.run([text], model, {embedder.feed.name: numbers})
            image = units(embedder.reading.of(outputs, embedder.settings.prefix_tokens)[:1])[0]
            words = units(outputs[tower.output].astype(np.float32)[:1])[0]
            cosines.append(float(image.astype(np.float64) @ words.astype(np.float64)))
            logits.append(float(outputs[_LOGITS].reshape(-1)[0]))
    slope, offset = np.polyfit(cosines, logits, 1) if np.ptp(cosines) > 1e-5 else (0.0, 0.0)
    if not slope > 0 or np.abs(np.polyval((slope, offset), cosines) - logits).max() > _LEAST_BIAS:
        return None, None
    if abs(offset) < _LEAST_BIAS:
        return float(np.dot(cosines, logits) / np.dot(cosines, cosines)), 0.0
    return float(slope), float(offset)
