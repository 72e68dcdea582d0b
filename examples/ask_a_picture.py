"""Ask about pictures with the Python client: one job, however many pictures and questions.

    python examples/ask_a_picture.py [PICTURE...] [-q QUESTION]... [--model NAME]

Without a picture it takes the samples of models/shapes-vqa, each with its own questions, and says how often the answer
is right. Without a question it asks for a caption. Needs a running Fleet with the model: `fleet up`. FLEET_URL and
FLEET_API_KEY name another server and its key.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet_client import Client, FleetError, JobFailed

SAMPLES = Path(__file__).resolve().parents[1] / "models" / "shapes-vqa" / "example"


def ask(fleet: Client, model: str, pictures: list[str], questions: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the picture, its answer or error)."""
    params = {"question": questions} if questions else {"kind": "caption"}
    result = fleet.submit(None, pictures, model=model, params=params).result()
    # A lone picture has a lone answer.
    alone = [{"name": Path(pictures[0]).name, "result": result}]
    items: list[dict[str, Any]] = result["items"] if "count" in result else alone
    for item in items:
        yield item["name"], item.get("result") or {"error": item["error"]["detail"]}


def show(name: str, answer: dict[str, Any]) -> None:
    if "answers" not in answer:
        print(f"{name}: {answer.get('answer') or answer['error']}")
        return
    for one in answer["answers"]:
        print(f"{name}: {one['question']} {one['answer']} ({one['confidence']:.0%})")


def ask_samples(fleet: Client, model: str) -> None:
    """Each sample is asked its own questions, whose true answers are known."""
    right = count = 0
    for sample in json.loads((SAMPLES / "samples.json").read_text("utf-8")):
        questions = [asked["question"] for asked in sample["questions"]]
        for name, answer in ask(fleet, model, [str(SAMPLES / sample["image"])], questions):
            show(name, answer)
            true = [asked["answer"] for asked in sample["questions"]]
            right += sum(one["answer"] == answered for one, answered in zip(answer["answers"], true, strict=True))
            count += len(true)
    print(f"{right} of {count} answers are right")


def main(pictures: list[str], questions: list[str], model: str) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet:
            if not pictures and not questions:
                ask_samples(fleet, model)
                return 0
            chosen = pictures or sorted(map(str, SAMPLES.glob("*.png")))
            for name, answer in ask(fleet, model, chosen, questions):
                show(name, answer)
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask about pictures.")
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("-q", "--question", action="append", default=[])
    parser.add_argument("--model", default="shapes-vqa")
    arguments = parser.parse_args()
    sys.exit(main(arguments.pictures, arguments.question, arguments.model))
