"""Where in a config.pbtxt a field stands: only asked for once something is wrong with it.

The schema's own parser says where it stops, and nothing of what it could read.
"""

import re

_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]:\n]|[^\s{}<>\[\]:,;#"']+""")
_OPENING, _CLOSING = frozenset("{<["), frozenset("}>]")


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, at which each field is said first, by its path without indices: `input.reshape.shape`."""
    found: dict[str, int] = {}
    line, word, word_line = 1, "", 1
    #: The paths of what is open here; of a list and of the messages in it the same.
    above, field = [""], ""
    for part in _TOKEN.findall(text):
        if part == "\n":
            line += 1
        elif part == ":" or part in _OPENING:
            if word:
                field = f"{above[-1]}{word}"
                found.setdefault(field, word_line)
            if part in _OPENING:
                above.append(f"{field}." if field else above[-1])
                field = ""
            word = ""
        elif part in _CLOSING:
            above = above[:-1] or [""]
            word = field = ""
        elif part[0] != "#":
            word, word_line, field = part, line, ""
    return found
