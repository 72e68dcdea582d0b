"""What a task says of one picture, in a line for people. Machines read `--json`."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

_LONGEST = 200
#: Ends of lines, and what terminals obey.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Names, and what models say, come from elsewhere: they get no second line, and no say over the terminal."""
    return _CONTROL.sub(" ", text)


def in_words(result: Mapping[str, Any]) -> str:
    """The classes with their scores, how many were found of what, an answer; else the JSON, cut short."""
    match result:
        case {"predictions": list(predictions)}:
            named = [f"{one.get('class_name')} {one.get('confidence', 0):.0%}" for one in predictions]
            return ", ".join(named) or "nothing"
        case {"detections": list(detections)}:
            counted = Counter(str(one.get("class_name")) for one in detections)
            return ", ".join(f"{count} {name}" for name, count in counted.most_common()) or "nothing"
        case {"answer": str(answer)}:
            return answer
        case {"embedding": list(embedding)}:
            return f"{len(embedding)} numbers"
    text = json.dumps(result, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
