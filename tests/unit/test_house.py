"""The house rules that a linter does not know. See CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.clone import ROOT, package_modules, text_files

TEXTS = text_files()
MODULES = package_modules()
MAX_LINES = 300
#: The settings, and where a user's command line learns which Fleet to call.
#: And `worker/children.py`, to hand on which device is the worker's own.
MAY_READ_ENVIRONMENT = {"fleet/settings.py", "cli/connection.py", "worker/children.py"}
TASK_FILES = [name for name in MODULES if re.fullmatch(r"worker/tasks/(?!__init__)\w+\.py", name)]

#: Written in halves, so that this file does not find itself.
PACKAGE_INDEXES = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.(?:org|com)", "deb" + r"\.debian"])
)
SOMEBODYS_MACHINE = re.compile(r"(?<![\w.~-])/(?:root|work|Users|home/(?!fleet\b)\w+|mnt|media/\w+)/")
CREDENTIALS = re.compile(
    "|".join(
        [
            "AK" + r"IA[0-9A-Z]{16}",
            "gh" + r"[pousr]_[A-Za-z0-9]{30,}",
            "hf" + r"_[A-Za-z0-9]{30,}",
            "sk" + r"-[A-Za-z0-9_-]{32,}",
            "xo" + r"x[abprs]-[A-Za-z0-9-]{10,}",
            "-----BEGIN " + r"(?:[A-Z]+ )?PRIVATE KEY",
            r"eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.",
        ]
    )
)


def lines_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for name, text in TEXTS.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if found := pattern.search(line):
                yield f"{name}:{number}: {found[0]}"


def test_no_file_names_the_host_of_a_package_index() -> None:
    assert not list(lines_with(PACKAGE_INDEXES))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert not list(lines_with(SOMEBODYS_MACHINE))


def test_no_file_holds_what_looks_like_a_credential() -> None:
    assert not list(lines_with(CREDENTIALS))


def test_modules_were_found() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("worker/tasks/") and not name.endswith("__init__.py")]
)
def test_a_file_in_the_tasks_folder_has_one_task(name: str) -> None:
    names = [
        target.id
        for node in ast.parse(MODULES[name]).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert names.count("TASK") == 1


def test_no_package_prints() -> None:
    calls = (
        f"{name}:{node.lineno}"
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )
    assert not list(calls)


def reads_environment(node: ast.AST) -> bool:
    """`os.getenv(...)`, `os.environ.get(...)` or `os.environ[...]`; handing it on whole to a child is not reading."""
    match node:
        case ast.Call(func=function):
            return ast.unparse(function) in ("os.getenv", "os.environ.get", "os.environ.setdefault", "os.environ.pop")
        case ast.Subscript(value=value, ctx=ast.Load()):
            return ast.unparse(value) == "os.environ"
    return False


def test_only_the_settings_read_the_environment() -> None:
    found = {name for name, text in MODULES.items() for node in ast.walk(ast.parse(text)) if reads_environment(node)}
    assert found <= MAY_READ_ENVIRONMENT


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_enough_to_read(name: str) -> None:
    assert len(MODULES[name].splitlines()) <= MAX_LINES


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, text in MODULES.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert not silent


def test_no_module_is_called_an_attic() -> None:
    attic = re.compile(r"(?:^|/|_)(?:utils?|helpers?|manager|misc|common)\.py$")
    assert not [name for name in TEXTS if attic.search(name)]


def test_the_changelog_starts_with_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_all_decisions_are_numbered_and_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")
    assert [name[:4] for name in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    index = (folder / "README.md").read_text("utf-8")
    assert [name for name in records if f"({name})" not in index] == []
