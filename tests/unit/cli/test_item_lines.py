"""What is printed of each picture of a job, where it is people who read it."""

from typing import Any

import pytest

from cli.following import _told
from fleet_client import JobItem


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"predictions": [{"class_name": "cat", "confidence": 0.914}]}, "cat 91%"),
        ({"predictions": [], "top_class": None}, "nothing"),
        ({"detections": [{"class_name": "dog"}, {"class_name": "cat"}, {"class_name": "dog"}]}, "2 dog, 1 cat"),
        ({"detections": []}, "nothing"),
        ({"answer": "two of them\nside by side"}, "two of them side by side"),
        ({"embedding": [0.1, 0.2]}, "2 numbers"),
    ],
)
def test_an_answer_is_one_line_in_words(result: dict[str, Any], said: str) -> None:
    assert _told(JobItem(index=3, name="a.png", result=result)) == f"a.png: {said}"


def test_what_was_sent_or_found_has_no_say_over_the_terminal() -> None:
    item = JobItem(index=0, name="a\x1b]0;title\x07.png", result={"answer": "\x1b[2Jgone\x9b1A"})
    assert _told(item) == "a ]0;title .png:  [2Jgone 1A"
