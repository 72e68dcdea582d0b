"""What the files say that a sentence-transformers model is published with: modules.json and its companions."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import ModelError
from worker.text.settings import EmbeddingSettings, Pooling

#: A file of the model by its name; None when there is no such file.
Find = Callable[[str], Path | None]
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last", "last": "last"}
#: Tokenizers without a limit say a number like 1e30.
_NO_LIMIT = 10_000_000


@dataclass(frozen=True)
class Recipe:
    """How texts become vectors with one model."""

    pooling: Pooling
    normalize: bool
    #: Of a text; None where no file says it.
    max_tokens: int | None
    lower_case: bool
    pad_id: int | None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def recipe_of(settings: EmbeddingSettings, find: Find) -> Recipe:
    """The settings first, the publisher's files for what they leave open.

    Raises ModelError: `pooling-unknown`, `pooling-unsupported`, `normalize-unknown`, `modules-unsupported`,
    `publisher-file-invalid`, `prompt-unknown`.
    """
    types = _module_types(find, inside=settings.pooling == "none")
    bert, tokenizer = _json(find, "sentence_bert_config.json"), _json(find, "tokenizer_config.json")
    config, own = _json(find, "config.json"), _json(find, "config_sentence_transformers.json")
    prompts = {name: text for name, text in (own.get("prompts") or {}).items() if isinstance(text, str)}
    prompts |= settings.prompts
    default = settings.default_prompt or own.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelError(
            f"the default prompt {default!r} is none of the model's: {', '.join(prompts) or 'it has none'}",
            code="prompt-unknown",
        )
    return Recipe(
        pooling=settings.pooling or _pooling(find, types),
        normalize=_normalize(settings, types),
        max_tokens=settings.max_tokens or _max_tokens(bert, tokenizer, config),
        lower_case=bool(bert.get("do_lower_case")) if settings.lower_case is None else settings.lower_case,
        pad_id=config.get("pad_token_id"),
        prompts=prompts,
        default_prompt=default,
    )


def _module_types(find: Find, *, inside: bool) -> dict[str, str] | None:
    """Type -> folder of each module, types without what stands before their last dot; None: no file.

    inside: the graph does all of them itself.
    """
    if find("modules.json") is None:
        return None
    modules = _read(find, "modules.json")
    try:
        types = {str(module["type"]).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    except (TypeError, KeyError) as error:
        raise _invalid("modules.json", "is not a list of modules") from error
    strange = [name for name in types if name not in ("Transformer", "Pooling", "Normalize")]
    if strange and not inside:
        raise ModelError(
            f"modules.json asks for {', '.join(strange)} behind the graph, which this worker does not do: "
            "export the model with them inside the graph, and say `pooling: none`",
            code="modules-unsupported",
        )
    return types


def _pooling(find: Find, types: Mapping[str, str] | None) -> Pooling:
    if types is not None and "Pooling" not in types:
        return "none"
    name = f"{(types or {}).get('Pooling', '1_Pooling')}/config.json"
    said = _json(find, name)
    if not said:
        raise ModelError(
            f"nothing says how tokens become one vector: there is no {name}; set `pooling` in model.yaml",
            code="pooling-unknown",
        )
    if said.get("include_prompt") is False:
        raise ModelError(
            f"{name} leaves the prompt's tokens out of the vector, which this worker does not do",
            code="pooling-unsupported",
        )
    modes = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    found = [_POOLINGS.get(mode) for mode in modes]
    if not modes and isinstance(mode := said.get("pooling_mode"), str):
        modes, found = [mode], [_NAMES.get(mode)]
    if len(found) != 1 or found[0] is None:
        raise ModelError(
            f"{name} asks for {' and '.join(modes) or 'no pooling that is known'}; this worker does one of "
            f"{', '.join(_POOLINGS.values())}",
            code="pooling-unsupported",
        )
    return found[0]


def _normalize(settings: EmbeddingSettings, types: Mapping[str, str] | None) -> bool:
    if settings.normalize is not None:
        return settings.normalize
    if types is None:
        raise ModelError(
            "nothing says whether vectors are made one unit long: there is no modules.json; set `normalize` in "
            "model.yaml",
            code="normalize-unknown",
        )
    return "Normalize" in types


def _max_tokens(bert: Mapping[str, Any], tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    if isinstance(most := bert.get("max_seq_length"), int):
        return most
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(known, default=None)


def _json(find: Find, name: str) -> dict[str, Any]:
    """Empty when there is no such file."""
    content = _read(find, name) if find(name) is not None else {}
    if not isinstance(content, dict):
        raise _invalid(name, "is not an object")
    return content


def _read(find: Find, name: str) -> Any:
    path = find(name)
    try:
        return json.loads(path.read_bytes()) if path is not None else None
    except (OSError, ValueError) as error:
        raise _invalid(name, "cannot be read as JSON") from error


def _invalid(name: str, lack: str) -> ModelError:
    return ModelError(f"{name} {lack}", code="publisher-file-invalid", file=name)
