"""What embeds texts with one loaded model: its tokenizer, its recipe, and how its graph is fed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fleet.embeddings import EmbeddingParams, Texts, fault
from fleet.errors import ModelError
from fleet.settings import GPU_PROVIDERS
from worker.contract import Array, Model, Tensor
from worker.text.batches import Chunk, chunks, filled
from worker.text.pooling import cut, pooled
from worker.text.publisher import Recipe, recipe_of
from worker.text.settings import EmbeddingSettings
from worker.text.tokens import TextTokenizer, Tokens

_IDS, _MASK, _TYPES, _POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
_OUTPUTS = ("sentence_embedding", "text_embeds", "last_hidden_state", "token_embeddings")
#: In this order: what sentence-transformers tries for a query and for a passage.
_PROMPTS = {"query": ("query",), "passage": ("document", "passage", "corpus"), None: ()}


class Encoder:
    """Thread-safe. Made once per loaded model: `model.derived(Encoder)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a model that cannot be used so, with what is wrong."""
        settings: EmbeddingSettings = model.settings
        self.settings = settings
        self.output = _output(model.outputs, settings)
        pooled_inside = settings.pooling is None and len(self.output.shape) == 2
        self.recipe: Recipe = recipe_of(
            settings.model_copy(update={"pooling": "none"}) if pooled_inside else settings, model.file
        )
        self._inputs = _inputs(model.inputs)
        #: The only number of tokens that the graph takes; None when any will do.
        self.fixed_length = next((size for tensor in model.inputs for size in tensor.shape[1:2] if size > 0), None)
        self.tokenizer = _tokenizer(model, self.recipe, self.fixed_length)
        self._max_rows = _max_rows(model)
        self._run_tokens = settings.run_tokens.gpu if model.provider in GPU_PROVIDERS else settings.run_tokens.cpu
        #: Numbers of a whole vector.
        self.width = self._width(model)

    @property
    def identity(self) -> str:
        """What decides its vectors besides the version's own files and settings: these may lie beside the versions."""
        return f"{self.tokenizer.sha256} {self.recipe}"

    def prompt(self, params: EmbeddingParams, texts: Texts) -> str:
        """What is put before each text. Raises ValidationFailed `prompt-unknown` or `prompt-with-token-ids`."""
        known = self.recipe.prompts
        if params.prompt is not None and params.prompt not in known:
            raise fault(
                f"the model has no prompt {params.prompt!r}; it has {', '.join(known) or 'none'}",
                code="prompt-unknown",
                where="#/params/prompt",
                known=list(known),
            )
        named = params.prompt or next((name for name in _PROMPTS[params.kind] if name in known), None)
        if isinstance(texts[0], list):
            if named is not None and known[named]:
                raise fault(
                    "a prompt is put before texts, and these are token ids: send texts, or put its tokens before them",
                    code="prompt-with-token-ids",
                    where="#/params/prompt" if params.prompt else "#/params/kind",
                )
            return ""
        named = named or (self.recipe.default_prompt if params.kind is None else None)
        return known[named] if named is not None else ""

    def dimensions(self, wanted: int | None) -> int:
        """Numbers of each vector of the answer. Raises ValidationFailed `dimensions-unsupported`."""
        allowed = self.settings.dimensions
        if wanted is None or wanted == self.width:
            return self.width
        if wanted > self.width or (allowed != "any" and wanted not in allowed):
            also = f"up to {self.width}" if allowed == "any" else ", ".join(map(str, [*sorted(allowed), self.width]))
            raise fault(
                f"the model's vectors cannot have {wanted} dimensions: it gives {also}",
                code="dimensions-unsupported",
                where="#/params/dimensions",
                dimensions=wanted,
                width=self.width,
            )
        return wanted

    def embed(self, tokens: Tokens, vectors: Array, model: Model, done: Callable[[int], None]) -> None:
        """Writes each text's vector into its row of `vectors`, float32 [texts, dimensions].

        `done` is told after each run how many texts it had; it may raise to end the work. Raises as `model.batched`.
        """
        plan = self.planned(tokens)

        def one(chunk: Chunk) -> tuple[Chunk, Array]:
            return chunk, self.run_chunk(chunk, tokens, model, vectors.shape[1])

        if model.at_once == 1 or len(plan) <= 1:
            for chunk in plan:
                vectors[chunk.places] = one(chunk)[1]
                done(len(chunk.places))
            return
        with ThreadPoolExecutor(min(model.at_once, len(plan)), "embedding") as lanes:
            try:
                for chunk, rows in lanes.map(one, plan):
                    vectors[chunk.places] = rows
                    done(len(chunk.places))
            except BaseException:
                lanes.shutdown(wait=False, cancel_futures=True)
                raise

    def planned(self, tokens: Tokens) -> list[Chunk]:
        lengths = [len(ids) for ids in tokens.ids]
        return list(
            chunks(
                lengths,
                run_tokens=self._run_tokens,
                max_rows=self._max_rows,
                max_tokens=self.tokenizer.max_tokens,
                fixed=self.fixed_length,
            )
        )

    def run_chunk(self, chunk: Chunk, tokens: Tokens, model: Model, dimensions: int) -> Array:
        """The vectors of these texts alone, float32 [texts, dimensions]."""
        ids, mask = filled([tokens.ids[place] for place in chunk.places], chunk.length, self.tokenizer.pad_id)
        vectors = self._embedded(ids, mask, model, chunk.most_rows, dimensions)
        if not np.isfinite(vectors).all():
            raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
        return vectors

    def _embedded(self, ids: Array, mask: Array, model: Model, most_rows: int, dimensions: int | None) -> Array:
        """[texts, tokens] -> [texts, dimensions]."""
        outputs = model.batched(self.feeds(ids, mask), most_rows)
        values = pooled(outputs[self.output.name], mask, self.recipe.pooling)
        return cut(values, dimensions, normalize=self.recipe.normalize)

    def feeds(self, ids: Array, mask: Array) -> dict[str, Array]:
        made = {_IDS: ids, _MASK: mask, _TYPES: np.zeros_like(ids)}
        if _POSITIONS in self._inputs:
            made[_POSITIONS] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        return {name: made[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}

    def _width(self, model: Model) -> int:
        if (size := self.output.shape[-1]) > 0:
            return size
        ids, mask = filled([np.zeros(1, np.int64)], self.fixed_length or 1, self.tokenizer.pad_id)
        return int(self._embedded(ids, mask, model, 1, None).shape[1])


def _output(outputs: Sequence[Tensor], settings: EmbeddingSettings) -> Tensor:
    by_name = {tensor.name: tensor for tensor in outputs}
    names = [settings.output] if settings.output else _OUTPUTS
    found = next((by_name[name] for name in names if name in by_name), None)
    if found is None and not settings.output and len(outputs) == 1:
        found = outputs[0]
    if found is None or len(found.shape) not in (2, 3):
        raise ModelError(
            f"no output of the graph has vectors: it has {', '.join(by_name)}; name the right one as pipeline.output",
            code="unknown-output",
        )
    return found


def _inputs(inputs: Sequence[Tensor]) -> dict[str, np.dtype[np.generic]]:
    if strange := [tensor.name for tensor in inputs if tensor.name not in (_IDS, _MASK, _TYPES, _POSITIONS)]:
        raise ModelError(
            f"the graph wants {', '.join(strange)}, which texts do not give: export the model for feature extraction",
            code="unknown-input",
        )
    names = {tensor.name: tensor.dtype for tensor in inputs}
    if _IDS not in names or any(len(tensor.shape) != 2 for tensor in inputs):
        raise ModelError(
            f"the graph must take {_IDS} [texts, tokens], and of that shape whatever else it takes",
            code="unknown-input",
        )
    return names


def _tokenizer(model: Model, recipe: Recipe, fixed_length: int | None) -> TextTokenizer:
    settings: EmbeddingSettings = model.settings
    path = model.file(settings.tokenizer)
    if path is None:
        raise ModelError(
            f"there is no {settings.tokenizer} in the model's folder, nor in its version's", code="tokenizer-missing"
        )
    limits = [limit for limit in (recipe.max_tokens, fixed_length) if limit is not None]
    if not limits:
        raise ModelError(
            "nothing says how many tokens a text may have: set `max_tokens` in model.yaml", code="max-tokens-unknown"
        )
    return TextTokenizer(path, lower_case=recipe.lower_case, max_tokens=min(limits), pad_id=recipe.pad_id)


def _max_rows(model: Model) -> int:
    fixed = model.inputs[0].shape[0]
    if fixed not in (-1, 1):
        raise ModelError(
            f"the graph takes {fixed} texts at a time, no more and no fewer: export it with a free batch dimension",
            code="fixed-batch",
        )
    # Without a word of the author on batches a request's own texts still run together.
    return 1 if fixed == 1 else model.max_batch_size or 1024
