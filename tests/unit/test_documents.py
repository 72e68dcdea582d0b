"""What the documents name exists: links, headings, files, commands, make targets."""

import re

import pytest

from cli.main import COMMANDS
from tests.support.clone import ROOT, text_files

DOCUMENTS = {name: text for name, text in text_files().items() if name.endswith(".md")}
LINK = re.compile(r"""(?:\]\(|src="|href=")(?!https?:|mailto:)([^)\s"]+)""")
PLACES = r"examples|benchmarks|docs|requirements|docker|models/[\w-]+|tests|fleet|api|worker|cli|client"
NAMED_FILE = re.compile(rf"(?<![\w/.-])((?:{PLACES})/[\w./-]*\w\.\w+)")
MAKE_TARGET = re.compile(r"(?:^|`|&& )make ([a-z][a-z-]+)\b", re.MULTILINE)
FLEET_COMMAND = re.compile(r"(?:^(?:\$ )?|`)(?:\.venv/bin/)?fleet ([a-z][a-z-]+)", re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that a heading gets on the usual hosts."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words))


def prose(text: str) -> str:
    """Without the code blocks, whose brackets are no links and whose # are no headings."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def test_documents_were_found() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= DOCUMENTS.keys()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_resolves(name: str) -> None:
    for match in LINK.finditer(prose(DOCUMENTS[name])):
        target, _, anchor = match[1].partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", prose(path.read_text("utf-8")), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], f"{target}#{anchor}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    places = (ROOT, (ROOT / name).parent)
    named = NAMED_FILE.findall(DOCUMENTS[name])
    missing = [path for path in named if not any((place / path).exists() for place in places)]
    assert not missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(MAKE_TARGET.findall(DOCUMENTS[name])) <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_a_document_names_exists(name: str) -> None:
    assert set(FLEET_COMMAND.findall(DOCUMENTS[name])) <= COMMANDS.keys()
