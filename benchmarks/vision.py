"""Pictures: the bare network, ours in process, the whole fleet, and others that do the same: `make bench-vision`.

    make bench-vision             (ARGS="--yolo yolo11n.onnx --python PATH --litserve-python PATH --short")
    make bench-vision             (ARGS="--host-work --yolo yolo11n.onnx")

All get the same picture, a JPEG of a megapixel, and answer with what a user would read. The bare network is the very
runs of graphs that one answer takes, fed what they were fed, in the better of two ways to use the cores, found first:
for shapes-vqa those are all the steps of its decoding. The fleet is a stack as `fleet up` starts it, asked by a process
of its own over kept connections, on the same cores: servers, api, worker and clients share them. It is asked as the
others are, for answers alone (`POST /inference`, where requests that come at the same time share jobs), and for a job
of its own for each picture (`POST /api/v1/jobs` with `Prefer: wait`). Machines wander: all is measured in rounds, right
after the bare network each time, and shares and differences are medians of the rounds' own.

--yolo is an ONNX file as `yolo export model=yolo11n.pt format=onnx` writes it; without it a stand-in of about the same
cost is made, and called so. ViT-B/16 is made here, with weights of chance. --python leads to a Python with ultralytics,
timm and transformers (`make parity` makes one in .venv-parity), --litserve-python to one with litserve, onnxruntime,
Pillow and opencv-python-headless, and for shapes-vqa tokenizers; its words there must be those of our own answer, else
all ends. --short measures a few seconds each: enough to see that all of it runs.
"""

import argparse
import logging
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil
import structlog
from parity_embeddings import ROOT
from timed_process import TimedProcess
from vision_lab.clients import Load, Target, fleet_target, jobs_target, lit_target, loaded
from vision_lab.host_work import show_host_work
from vision_lab.in_process import Bare, InProcess
from vision_lab.networks import NAMES, Network, networks, photograph
from vision_lab.peers import has_tokenizers, lit_server, refuse_other_words, timed_library
from vision_lab.processor import used_ms

from cli.stack import Stack
from cli.stack.ports import free_port
from fleet.cpus import usable_cpus

MOST_ABOVE_S, LEAST_SHARE = 0.008, 0.9
#: Requests at once, the least pictures a minute, and what 95 of 100 take at most.
CROWD, LEAST_A_MINUTE, MOST_S = 50, 100.0, 2.0
#: Clients while the time of processors is taken.
MANY = 8
STAGES = ("queue", "load", "fetch", "decode", "prepare", "infer", "finish", "encode", "store")


@dataclass
class Figures:
    """Of all rounds of one row."""

    rates: list[float] = field(default_factory=list)
    #: Of the bound of the same round.
    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def show(self, title: str, more: str = "") -> None:
        share = f"{statistics.median(self.shares):>10.0%}" if self.shares else f"{'':10}"
        rate = statistics.median(self.rates)
        print(
            f"  {title:44}{rate:>10.1f}{1000 * self.at(0.5):>10.1f}{1000 * self.at(0.99):>10.1f}{share}{more}",
            flush=True,
        )

    def at(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass
class Scene:
    seconds: float
    rounds: int
    clients: ProcessPoolExecutor
    crowds: list[int]
    python: Path | None
    litserve_python: Path | None
    #: Sentence -> whether it holds.
    targets: dict[str, bool] = field(default_factory=dict)


def main() -> int:
    asked = arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder, ExitStack() as until_the_end:
        work = Path(folder)
        picture = asked.picture or photograph(work / "photograph.jpg")
        found = networks(asked.network, work, picture, asked.yolo)
        if asked.host_work:
            yolo = next(iter(networks(["yolo"], work / "host", picture, asked.yolo)))
            return 0 if show_host_work(yolo, work, asked.rounds * (10 if asked.short else 50)) else 1
        elsewhere = until_the_end.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        seconds, rounds = (1.0, 1) if asked.short else (asked.seconds, asked.rounds)
        scene = Scene(seconds, rounds, elsewhere, asked.clients, asked.python, asked.litserve_python)
        size = picture.stat().st_size // 1024
        print(f"{usable_cpus()} cores, load {psutil.getloadavg()[0]:.1f}; {picture.name}, {size} KiB")
        with Stack(work / "stack", workers=1, port=0, models=work / "models") as stack:
            for network in found:
                compare(scene, network, stack.url, work)
    print(f"\nload at the end {psutil.getloadavg()[0]:.1f}")
    for sentence, held in scene.targets.items():
        print(f"  {'yes' if held else 'NO ':4} {sentence}")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NAMES, nargs="+", default=list(NAMES))
    parser.add_argument("--yolo", type=Path, help="an ONNX file of ultralytics")
    parser.add_argument("--picture", type=Path, help="instead of the photograph that is made of the repository's")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--python", type=Path, help="with ultralytics, timm and transformers")
    parser.add_argument("--litserve-python", type=Path)
    parser.add_argument("--host-work", action="store_true", help="only what is done besides the network, by step")
    asked = parser.parse_args()
    made = ROOT / ".venv-parity" / "bin" / "python"
    asked.python = asked.python or (made if made.exists() else None)
    return asked


def compare(scene: Scene, network: Network, url: str, work: Path) -> None:
    print(f"\n{network.title}\n  {'':44}{'images/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'of bare':>10}")
    ours = InProcess(network, work)
    bare = Bare(ours.runs())
    bare.choose(scene.seconds)
    bound = Figures()
    in_process(scene, network, ours, bare, bound)
    target = fleet_target(url, network.name, network.picture, network.params)
    of_their_own = jobs_target(url, network.name, network.picture, network.params)
    fleet: dict[int, Figures] = {}
    stages: dict[int, list[dict[str, float]]] = {}
    for clients in scene.crowds:
        fleet[clients], _ = asked(scene, bare, bound, target, clients)
        fleet[clients].show(f"fleet, {clients} clients")
    show_processor(scene, target)
    for clients in scene.crowds:
        figures, stages[clients] = asked(scene, bare, bound, of_their_own, clients)
        figures.show(f"fleet, {clients} clients, a job for each picture")
    if network.name == "yolo":
        crowd(scene, network, bare, bound, target)
        many = max(scene.crowds)
        share = statistics.median(fleet[many].shares)
        told = f"{network.title}: fleet with {many} clients {share:.0%} of the bare network, at least {LEAST_SHARE:.0%}"
        scene.targets[told] = share >= LEAST_SHARE
    peers(scene, network, bare, bound, ours, fleet)
    bound.show(f"bare network, {bare.way}")
    show_stages(stages)
    ours.close()


def in_process(scene: Scene, network: Network, ours: InProcess, bare: Bare, bound: Figures) -> None:
    """One picture at a time on this thread, and its bare runs on one core in between."""
    figures, above, alone, together = Figures(), [], Figures(), Figures()
    for _ in range(max(5, round(scene.rounds * scene.seconds / (2 * bare.once())))):
        network_s = bare.once()
        whole_s = ours.once()[1]["all"]
        figures.seconds.append(whole_s)
        alone.seconds.append(network_s)
        together.seconds.append(bare.once(usable_cpus()))
        above.append(whole_s - network_s)
    for each in (alone, together, figures):
        each.rates = [1 / each.at(0.5)]
    figures.shares = [alone.at(0.5) / figures.at(0.5)]
    alone.show("bare network, one at a time on one core")
    together.show("bare network, one at a time on all cores")
    more_s = statistics.median(above)
    least_s = min(figures.seconds) - min(alone.seconds)
    figures.show(
        "ours in process, one at a time",
        f"   network + {1000 * more_s:.1f} ms, of the quickest {1000 * least_s:.1f}",
    )
    told = f"{network.title}: in process the network and {1000 * more_s:.1f} ms, at most {1000 * MOST_ABOVE_S:g}"
    scene.targets[told] = more_s <= MOST_ABOVE_S
    bound.seconds += alone.seconds


def asked(
    scene: Scene, bare: Bare, bound: Figures, target: Target, clients: int
) -> tuple[Figures, list[dict[str, float]]]:
    figures, stages = Figures(), []
    scene.clients.submit(loaded, target, clients, 0.2).result()
    for _ in range(scene.rounds):
        bound.rates.append(bare.rate(scene.seconds))
        load: Load = scene.clients.submit(loaded, target, clients, scene.seconds).result()
        figures.rates.append(load.rate)
        figures.shares.append(load.rate / bound.rates[-1])
        figures.seconds += load.seconds
        stages += load.stages
    return figures, stages


def show_processor(scene: Scene, target: Target) -> None:
    """What a picture takes of the cores, by process."""
    before = used_ms()
    load: Load = scene.clients.submit(loaded, target, MANY, 2 * scene.seconds).result()
    # Of processes that ended meanwhile nothing is known.
    spent = used_ms() - before
    each = ", ".join(f"{kind} {ms / load.answers:.1f}" for kind, ms in spent.most_common())
    print(
        f"    processor ms a picture, {MANY} clients: {each}; together {spent.total() / load.answers:.1f}", flush=True
    )


def crowd(scene: Scene, network: Network, bare: Bare, bound: Figures, target: Target) -> None:
    figures, _ = asked(scene, bare, bound, target, CROWD)
    figures.show(f"fleet, {CROWD} requests at once")
    a_minute, slow_s = 60 * statistics.median(figures.rates), figures.at(0.95)
    told = f"{network.title}: {CROWD} requests at once, {a_minute:.0f} images a minute, more than {LEAST_A_MINUTE:g}"
    scene.targets[told] = a_minute > LEAST_A_MINUTE
    scene.targets[f"{network.title}: ... and p95 {slow_s:.2f} s, under {MOST_S:g} s"] = slow_s < MOST_S


def peers(
    scene: Scene, network: Network, bare: Bare, bound: Figures, ours: InProcess, fleet: dict[int, Figures]
) -> None:
    graph = network.folder / "1" / "model.onnx"
    if network.library and scene.python is not None:
        by_library(scene, network, ours, timed_library(scene.python, network, graph))
    elif network.library:
        print(f"  {network.library}: left out, no --python")
    if scene.litserve_python is None:
        print("  LitServe: left out, no --litserve-python")
        return
    if network.name == "vqa" and not has_tokenizers(scene.litserve_python):
        print("  LitServe: left out, --litserve-python has no tokenizers")
        return
    for threads in sorted({1, usable_cpus()}):
        way = f"LitServe, {threads} thread{'s' if threads > 1 else ''} a worker"
        with lit_server(scene.litserve_python, network, free_port(), threads) as url:
            target = lit_target(url, network.picture, network.params)
            if network.name == "vqa":
                refuse_other_words(target, ours)
            for clients in scene.crowds:
                figures, _ = asked(scene, bare, bound, target, clients)
                figures.show(f"{way}, {clients} clients")
                mine, theirs = (statistics.median(each.shares) for each in (fleet[clients], figures))
                told = f"{network.title}: {clients} clients, fleet {mine / theirs:.2f} times {way}, above 1"
                scene.targets[told] = mine > theirs


def by_library(scene: Scene, network: Network, ours: InProcess, library: TimedProcess) -> None:
    """One picture at a time, and ours in between: seconds by seconds."""
    figures, mine = Figures(), []
    for _ in range(max(5, round(scene.rounds * scene.seconds / (2 * ours.once()[1]["all"])))):
        figures.seconds.append(library.once()[0])
        mine.append(ours.once()[1]["all"])
    figures.rates = [1 / figures.at(0.5)]
    ratio = figures.at(0.5) / statistics.median(mine)
    figures.show(f"{library.version}"[:44], f"   {ratio:.2f} times ours on one core")
    library.close()


def show_stages(stages: dict[int, list[dict[str, float]]]) -> None:
    print(f"  {'of a job of the fleet, p50 ms, by clients':44}" + "".join(f"{clients:>10}" for clients in stages))
    for name in STAGES:
        times = [1000 * statistics.median(one.get(name, 0.0) for one in told) for told in stages.values()]
        print(f"    {name:42}" + "".join(f"{time_ms:>10.1f}" for time_ms in times))


if __name__ == "__main__":
    raise SystemExit(main())
