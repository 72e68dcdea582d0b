"""All SQL of the core, as named blocks in `.sql` files: none is written in Python.

A block begins with `-- name --` and a description in comment lines, and ends at the next block.
"""

import re
from functools import cache
from importlib.resources import files

_HEAD = re.compile(r"^-- ([a-z_0-9]+) --[ \t]*$", re.MULTILINE)


@cache
def statements(topic: str) -> dict[str, str]:
    """The blocks of `<topic>.sql` by name, without their comments."""
    text = files(__name__).joinpath(f"{topic}.sql").read_text("utf-8")
    heads = list(_HEAD.finditer(text))
    blocks: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        if head[1] in blocks:
            raise ValueError(f"{topic}.sql names the block {head[1]!r} twice")
        body = text[head.end() : following.start() if following else len(text)]
        lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
        blocks[head[1]] = "\n".join(lines).strip().rstrip(";")
    return blocks
