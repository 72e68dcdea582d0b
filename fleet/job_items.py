"""What api and worker agree on of jobs with many items: where finished ones are while the job goes on."""

import re

#: The artifact of a long list of items, one line of JSON for each.
ITEMS_NAME = "items.jsonl"
#: Of an answer, or of a list of them, in the record, which is read by the page; longer ones are artifacts.
MAX_INLINE_BYTES = 256 * 1024
#: Items that are kept together as a part of the job, in the same form.
BLOCK = 25
_NAME = re.compile(r"items-([0-9]{6})")


def block_name(number: int) -> str:
    """Of the part that holds items `number` * BLOCK and following."""
    return f"items-{number:06}"


def block_number(name: str) -> int | None:
    """None for a part that holds no items."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None
