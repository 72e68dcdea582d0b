"""For scripts that ask libraries whose packages want many others: of these, what is imported and not used here.

Imports nothing of ours.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Named(type):
    """Of classes that have attributes of any name, classes again."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _class(name)


def _class(name: str) -> Any:
    """May be made of anything; called, it decorates."""
    return _Named(name, (), {"__init__": lambda *a, **k: None, "__call__": lambda self, made=None, *a, **k: made})


class Empty(ModuleType):
    """A module that has any class, and any module in it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _class(name)


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in self._names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def empty_if_missing(*names: str) -> None:
    """Packages that are not here can be imported from now on, and have everything and do nothing."""
    missing = frozenset(name for name in names if find_spec(name) is None)
    sys.meta_path.append(_Finder(missing))
    if "tensorboard" in missing:
        # Torch's own module looks at the version.
        for name in ("torch.utils.tensorboard", "torch.utils.tensorboard.summary"):
            sys.modules[name] = Empty(name)
