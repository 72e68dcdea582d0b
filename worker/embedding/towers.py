"""Which graph of a version looks at pictures and which one reads texts: told by what they take and give."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.errors import ModelError
from worker.contract import Model, Tensor

IDS, MASK, TYPES, POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
_TEXT_INPUTS = (IDS, MASK, TYPES, POSITIONS)


@dataclass(frozen=True)
class Towers:
    """Names of graphs in `Model.graphs`. The same one twice: it takes a picture and a text in each run."""

    image: str
    text: str | None = None

    @property
    def joint(self) -> bool:
        return self.image == self.text


def towers_of(graphs: Mapping[str, Model]) -> Towers:
    """Raises ModelError `unknown-input` for a graph that is neither, `towers-ambiguous` for two of a kind."""
    looking = [name for name, graph in graphs.items() if picture_input(graph) is not None]
    reading = [name for name, graph in graphs.items() if text_inputs(graph)]
    for name, graph in graphs.items():
        if name not in looking and name not in reading:
            raise _unknown(name, graph, "neither a picture nor token ids")
        taken = [picture_input(graph), *text_inputs(graph).values()]
        if strange := [tensor.name for tensor in graph.inputs if tensor not in taken]:
            raise _unknown(name, graph, f"{', '.join(strange)}, which neither a picture nor a text gives")
    if not looking:
        raise ModelError(
            f"no graph takes pictures, only token ids ({', '.join(reading)}): a text tower alone is a model of the "
            "task text-embedding",
            code="unknown-input",
        )
    for kind, found in (("pictures", looking), ("texts", reading)):
        if len(found) > 1:
            raise ModelError(
                f"{' and '.join(found)} both take {kind}: leave one image tower and one text tower, or the graph that "
                "is both, in the version's folder",
                code="towers-ambiguous",
            )
    return Towers(looking[0], reading[0] if reading else None)


def picture_input(graph: Model) -> Tensor | None:
    """The only input of four dimensions."""
    found = [tensor for tensor in graph.inputs if len(tensor.shape) == 4]
    return found[0] if len(found) == 1 else None


def text_inputs(graph: Model) -> Mapping[str, Tensor]:
    """By what they are: `input_ids`, `attention_mask`, ...; none where the graph takes no token ids.

    A lone input of whole numbers, [texts, tokens], has the ids whatever it is called.
    """
    whole = [tensor for tensor in graph.inputs if len(tensor.shape) == 2 and tensor.dtype.kind == "i"]
    found = {tensor.name: tensor for tensor in whole if tensor.name in _TEXT_INPUTS}
    if not found and len(whole) == 1:
        return {IDS: whole[0]}
    return found if IDS in found else {}


def _unknown(name: str, graph: Model, what: str) -> ModelError:
    taken = ", ".join(f"{tensor.name} {tensor.dtype.name} {list(tensor.shape)}" for tensor in graph.inputs)
    return ModelError(
        f"{name}.onnx takes {what}: it has the inputs {taken}. An image embedding takes [pictures, 3, height, width], "
        f"a text tower {IDS} and what belongs to them",
        code="unknown-input",
    )
