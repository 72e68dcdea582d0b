"""Embeddings over HTTP against the bare runtime, and against others that make them: `make bench-embeddings`.

    make bench-embeddings         (ARGS="--seconds 10 --rounds 3 --infinity-python PATH")

The same 256 texts for all: half of about 16 tokens, two fifths of about 64, one tenth of 256. The bound is ONNX
Runtime with nothing around it: ready token ids, sorted, in the best of several ways to batch them and to use the
cores, found first. The fleet is a stack as `fleet up` starts it, asked over kept connections by a process of its own,
on the same cores: servers, api, worker and clients share them. Machines wander: every figure is measured in rounds, and
right before each a pass of the bare runtime; the share of the bound is the median of the rounds' own.

sentence-transformers runs with --python, else in .venv-parity, which `make parity` makes. infinity-emb runs where
--infinity-python leads to a Python that has it.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from embedding_lab.bound import Bound, Way, best_way
from embedding_lab.clients import Crowd, Target, ask, loaded
from embedding_lab.peers import infinity, timed_sentence_transformers
from parity_embeddings import MODEL, ROOT, complete
from varied_texts import mixed_texts

from cli.stack import Stack
from cli.stack.ports import free_port
from fleet.cpus import usable_cpus
from worker.contract import Array
from worker.engine.model_folder import read_versions
from worker.tasks import find_tasks
from worker.text.tokens import TextTokenizer

CROWDS = [Crowd(1, 1), Crowd(8, 1), Crowd(64, 1), Crowd(1, 256), Crowd(8, 256)]
_IDLE_REQUESTS = 30


@dataclass
class Figures:
    """Of all rounds. `shares` are of the bound of the same round."""

    rates: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    texts: int = 0

    def show(self, title: str) -> None:
        ordered = sorted(self.seconds)
        times = "".join(f"{1000 * at(ordered, share):>10.1f}" for share in (0.5, 0.99)) if ordered else f"{'':20}"
        cost = f"{1000 * self.cpu_s / self.texts:>10.2f}"
        share = f"{statistics.median(self.shares):>10.0%}" if self.shares else ""
        print(f"{title:42}{statistics.median(self.rates):>10.1f}{times}{cost}{share}")


@dataclass(frozen=True)
class Scene:
    """What is the same for all cases."""

    bound: Bound
    way: Way
    texts: list[str]
    ids: list[Array]
    seconds: float
    rounds: int
    bare: Figures = field(default_factory=Figures)

    def bare_rate(self) -> float:
        began, spent = time.perf_counter(), time.process_time()
        self.bound.run(self.ids, self.way)
        rate = len(self.ids) / (time.perf_counter() - began)
        self.bare.rates.append(rate)
        self.bare.cpu_s += time.process_time() - spent
        self.bare.texts += len(self.ids)
        return rate


def main() -> None:
    asked = arguments()
    folder = complete(asked.model)
    graph = read_versions(folder, find_tasks())[0].graph
    tokenizer = TextTokenizer(folder / "1" / "tokenizer.json", lower_case=False, max_tokens=256, pad_id=0)
    texts = mixed_texts(256, lambda text: len(tokenizer.tokenize([text], "end", str).ids[0]))
    ids = tokenizer.tokenize(texts, "end", str).ids
    print(f"{len(texts)} texts, {sum(map(len, ids))} tokens; {usable_cpus()} cores, load {psutil.getloadavg()[0]:.1f}")
    bound = Bound(graph)
    scene = Scene(bound, best_way(bound, ids, asked.rounds), texts, ids, asked.seconds, asked.rounds)
    print(f"  the bound: {scene.way}\n")
    print(f"{'':42}{'texts/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'CPU s/1k':>10}{'of bound':>10}")
    with ExitStack() as open_until_the_end:
        clients = open_until_the_end.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        if asked.only != "peers":
            through_the_fleet(scene, folder, clients, asked.crowds)
        if asked.only != "fleet":
            peers(scene, folder, clients, asked)
    scene.bare.show("bare runtime")
    print(f"load at the end {psutil.getloadavg()[0]:.1f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="all-minilm-l6-v2's folder; weights are fetched")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-parity" / "bin" / "python")
    parser.add_argument("--infinity-python", type=Path)
    parser.add_argument("--only", choices=["fleet", "peers"])
    parser.add_argument("--crowds", type=crowd, nargs="+", default=CROWDS, help="for instance 64x1 1x256")
    return parser.parse_args()


def crowd(said: str) -> Crowd:
    clients, texts = said.split("x")
    return Crowd(int(clients), int(texts))


def through_the_fleet(scene: Scene, folder: Path, clients: ProcessPoolExecutor, crowds: Sequence[Crowd]) -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as data:
        shelf = Path(data) / "models"
        shelf.mkdir()
        (shelf / MODEL.name).symlink_to(folder.resolve())
        with Stack(Path(data) / "stack", workers=1, port=0, models=shelf) as stack:
            target = Target(stack.url, "/v1/embeddings", MODEL.name)
            used = partial(used_s, lambda: list(stack.pids.values()))
            idle(scene, target, used)
            for each in crowds:
                measured(scene, target, each, clients, used).show(f"fleet, {each}")


def peers(scene: Scene, folder: Path, clients: ProcessPoolExecutor, asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as data:
        given = Path(data) / "texts.json"
        given.write_text(json.dumps(scene.texts), "utf-8")
        if asked.python.exists():
            other = timed_sentence_transformers(asked.python, folder / "1", given)
            figures = Figures(texts=0)
            for _ in range(scene.rounds):
                bare = scene.bare_rate()
                wall_s, cpu_s = other.once()
                figures.rates.append(len(scene.texts) / wall_s)
                figures.shares.append(figures.rates[-1] / bare)
                figures.seconds.append(wall_s)
                figures.cpu_s += cpu_s
                figures.texts += len(scene.texts)
            figures.show(other.version)
            other.close()
        else:
            print(f"sentence-transformers: left out, there is no {asked.python}; `make parity` makes it")
        if asked.infinity_python is None:
            print("infinity-emb: left out, no --infinity-python")
            return
        with infinity(asked.infinity_python, folder / "1", free_port()) as (target, pid):
            for each in asked.crowds:
                measured(scene, target, each, clients, partial(used_s, lambda: [pid])).show(f"infinity, {each}")


def measured(
    scene: Scene, target: Target, each: Crowd, clients: ProcessPoolExecutor, used: Callable[[], float]
) -> Figures:
    clients.submit(loaded, target, scene.texts, each, 0.5).result()
    figures = Figures()
    for _ in range(scene.rounds):
        bare, spent = scene.bare_rate(), used()
        load = clients.submit(loaded, target, scene.texts, each, scene.seconds).result()
        figures.cpu_s += used() - spent
        figures.texts += load.asked
        figures.rates.append(load.rate)
        figures.shares.append(load.rate / bare)
        figures.seconds += load.seconds
    return figures


def idle(scene: Scene, target: Target, used: Callable[[], float]) -> None:
    """One short text while nothing else is asked for, and the bare run of it in between."""
    before = used()
    place = min(range(len(scene.ids)), key=lambda place: len(scene.ids[place]))
    connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=300)
    works: dict[str, Callable[[], object]] = {
        "bare runtime, one short text": lambda: scene.bound.alone(scene.ids[place]),
        "fleet, idle, one short text": lambda: ask(connection, target, [scene.texts[place]]),
    }
    figures = {title: Figures() for title in works}
    for number in range(_IDLE_REQUESTS * scene.rounds):
        for title, work in works.items():
            began, spent = time.perf_counter(), time.process_time()
            work()
            seconds = time.perf_counter() - began
            if number >= _IDLE_REQUESTS // 3:
                figures[title].rates.append(1 / seconds)
                figures[title].seconds.append(seconds)
                figures[title].cpu_s += time.process_time() - spent
                figures[title].texts += 1
    fleet = list(figures.values())[-1]
    fleet.cpu_s, fleet.texts = used() - before, _IDLE_REQUESTS * scene.rounds
    bare, ours = (statistics.median(each.seconds) for each in figures.values())
    for title, each in figures.items():
        each.show(title)
    print(f"  above the bare run, medians: {1000 * (ours - bare):.1f} ms")


def used_s(pids: Callable[[], list[int]]) -> float:
    """Seconds of processor of these processes so far, with the ones that they have started."""
    family = [
        member for pid in pids() for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


if __name__ == "__main__":
    main()
