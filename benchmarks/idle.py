"""Where the time of one request goes while the fleet is idle, hop by hop.

    make bench-idle            (ARGS="--requests 300 --noop --ahead")

A stack as `fleet up` starts it, one client, one request after the other: `POST /v1/embeddings` of one short text, or a
job that does nothing (`--noop`). Each moment is noted where it happens, in client, api and worker, on the clock that
they share; shown are the medians, in the order of time. Noting costs about 5 µs a moment. The bare run of the same text
in between is the runtime alone. Where others use the machine too, `--ahead` lets the stack and this script go first.
"""

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from embedding_lab.bound import Bound
from idle_lab.marks import hooked, noted
from parity_embeddings import MODEL, complete

from cli.stack import Stack
from worker.engine.model_folder import read_versions
from worker.tasks import find_tasks
from worker.text.tokens import TextTokenizer

TEXT = "How many people live in Berlin?"
_WARM_UP = 40
#: Between two requests: what the last one left to be done afterwards is over then.
_PAUSE_S = 0.02

Moments = Sequence[tuple[float, str]]


def main() -> None:
    asked = arguments()
    folder = complete(asked.model)
    bound = Bound(read_versions(folder, find_tasks())[0].graph)
    tokenizer = TextTokenizer(folder / "1" / "tokenizer.json", lower_case=False, max_tokens=256, pad_id=0)
    ids = tokenizer.tokenize([TEXT], "end", str).ids[0]
    body = {"model": "echo", "params": {"values": [1.0, 2.0, 3.0]}} if asked.noop else embedding(asked.format)
    path = "/api/v1/jobs" if asked.noop else "/v1/embeddings"
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as data:
        shelf, marks = Path(data) / "models", Path(data) / "marks"
        shelf.mkdir()
        marks.mkdir()
        for model in (folder, MODEL.parent / "echo"):
            (shelf / model.name).symlink_to(model.resolve())
        with (
            hooked(marks) as hooks,
            Stack(
                Path(data) / "stack", workers=1, port=0, models=shelf, environment={} if asked.plain else hooks
            ) as stack,
        ):
            ask = client(stack.url, path, json.dumps(body))
            asked_one_by_one(ask, lambda: bound.alone(ids), 0)
            with ahead([os.getpid(), *stack.pids.values()] if asked.ahead else []):
                spans, bare = asked_one_by_one(ask, lambda: bound.alone(ids), asked.requests)
        moments = noted(marks)
    show(spans, bare, moments)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="all-minilm-l6-v2's folder; weights are fetched")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--noop", action="store_true", help="a job of the model `echo` in place of an embedding")
    parser.add_argument("--plain", action="store_true", help="without moments: the whole request alone")
    parser.add_argument("--ahead", action="store_true", help="before all others of the machine (Linux, as root)")
    parser.add_argument("--format", choices=["base64", "float"], default="base64")
    return parser.parse_args()


def embedding(encoding: str) -> dict[str, str]:
    return {"model": MODEL.name, "input": TEXT, "encoding_format": encoding}


def client(url: str, path: str, body: str) -> Callable[[], None]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Prefer": "wait=30"}

    def ask() -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}: {content[:300]!r}")

    return ask


@contextmanager
def ahead(pids: Sequence[int]) -> Iterator[None]:
    """Their threads, and those of their children, run as soon as they can, whoever else wants to."""
    family = {child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)} | {*pids}
    threads = [thread.id for pid in family for thread in psutil.Process(pid).threads()]
    try:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        yield
    finally:
        for thread in threads:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def asked_one_by_one(
    ask: Callable[[], None], run_bare: Callable[[], None], requests: int
) -> tuple[list[tuple[float, float]], list[float]]:
    """Begin and end of each request, and the seconds of the bare runs in between."""
    spans, bare = [], []
    for number in range(_WARM_UP + requests):
        time.sleep(_PAUSE_S)
        began = time.perf_counter()
        run_bare()
        bare_s = time.perf_counter() - began
        time.sleep(_PAUSE_S)
        began = time.perf_counter()
        ask()
        if number >= _WARM_UP:
            spans.append((began, time.perf_counter()))
            bare.append(bare_s)
    return spans, bare


def show(spans: Sequence[tuple[float, float]], bare: Sequence[float], moments: Moments) -> None:
    took = [end - begin for begin, end in spans]
    times = [moment for moment, _ in moments]
    offsets: dict[str, list[float]] = {}
    for begin, end in spans:
        seen: dict[str, int] = {}
        for moment, name in moments[bisect_left(times, begin) : bisect_right(times, end)]:
            seen[name] = seen.get(name, 0) + 1
            numbered = name if seen[name] == 1 else f"{name} ({seen[name]})"
            offsets.setdefault(numbered, []).append(moment - begin)
    # What happens in few of the requests is no stage of them.
    stages = {name: statistics.median(values) for name, values in offsets.items() if len(values) > len(spans) / 2}
    before = 0.0
    print(f"{'':34}{'at ms':>8}{'after the one before':>22}")
    for name, at in [*sorted(stages.items(), key=lambda stage: stage[1]), ("answered", statistics.median(took))]:
        print(f"{name:34}{1000 * at:>8.2f}{1000 * (at - before):>22.2f}")
        before = at
    print(f"\n{'':34}{'least':>8}{'p10':>8}{'p50':>8}{'p90':>8}")
    for name, values in (("request", took), ("bare run", bare)):
        ordered = sorted(values)
        chosen = [ordered[0], *(ordered[int(share * len(ordered))] for share in (0.1, 0.5, 0.9))]
        print(f"{name:34}" + "".join(f"{1000 * value:>8.2f}" for value in chosen))
    print(f"above the bare run, medians: {1000 * (statistics.median(took) - statistics.median(bare)):.2f} ms")
    print(f"load {psutil.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
