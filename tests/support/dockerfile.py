"""Reads Dockerfiles as far as ours need: stages, the files they copy from the clone, the last instruction of a kind."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

#: An image with a version: not `latest`, not a bare name, not a major version alone.
PINNED = re.compile(r"[\w./-]+:(?:[\w-]*\d+\.\d+[\w.-]*|RELEASE\.[\w-]+)")


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def read_dockerfile(path: Path) -> list[Instruction]:
    text = re.sub(r"\\\n\s*", "", path.read_text("utf-8"))
    lines = (line.strip() for line in text.splitlines())
    return [Instruction(*line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def base_images(instructions: list[Instruction]) -> set[str]:
    """Images that come from outside: FROM lines with their ARG replaced, less the names of earlier stages."""
    arguments = dict(entry.rest.split("=", 1) for entry in instructions if entry.word == "ARG")
    images, stages = set(), set()
    for entry in instructions:
        if entry.word == "FROM":
            image, _, stage = entry.rest.partition(" AS ")
            name = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
            if name not in stages:
                images.add(name)
            stages.add(stage)
    return images


def copied_from_clone(instructions: list[Instruction]) -> list[str]:
    """Sources of every COPY that is not from another stage."""
    copies = (shlex.split(entry.rest) for entry in instructions if entry.word == "COPY")
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def last(instructions: list[Instruction], word: str) -> str:
    return [entry.rest for entry in instructions if entry.word == word][-1]
