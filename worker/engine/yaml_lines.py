"""Where in a YAML file a fault lies: only asked for once something is wrong, so reading stays quick."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError


def located(path: Path, error: ValidationError, above: Sequence[str] = ()) -> str:
    """All faults in one line: `line 7, pipeline.grid: ...; line 2, licence: ...`.

    above: where in the file lies what was validated.
    """
    try:
        root = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        root = None
    told = []
    for fault in error.errors():
        place = [*above, *(str(part) for part in fault["loc"])]
        line = line_of(root, place)
        where = f"line {line}, " if line is not None else ""
        said = "there is no such field" if fault["type"] == "extra_forbidden" else fault["msg"]
        told.append(f"{where}{'.'.join(place) or 'the document'}: {said}")
    return "; ".join(told)


def line_of(root: yaml.Node | None, place: Sequence[str]) -> int | None:
    """The line, from 1, of the field at the end of the path, or of the last one on it that is there."""
    if root is None:
        return None
    line, node = None, root
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if str(key.value) == part), None)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            # A validator's own word, such as the name of one of several types.
            continue
    return line
