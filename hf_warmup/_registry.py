"""What transformers finds of this package: names in pickles, and what is registered when its files are imported.

`_load_member` never moves: a pickled scheduler name calls `hf_warmup._registry._load_member`. Nothing here imports
transformers, so a process that uses none of it pays nothing.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _load_member(name: str) -> Any:
    """The scheduler's name as transformers' enum has it; importing this file has seen to it that it is there."""
    from transformers.trainer_utils import SchedulerType

    return SchedulerType(name)


def after_import(name: str, call: Callable[[Any], object]) -> None:
    """Call a function with a module: at once if it is imported already, else as soon as it is.

    Args:
        name: of the module.
        call: may be called again, should the module be loaded again.
    """
    _CALLS[name] = call
    if name in sys.modules:
        call(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


_CALLS: dict[str, Callable[[Any], object]] = {}


class _Finder(MetaPathFinder):
    """Finds the awaited modules as everybody else does, and sees to their calls."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _CALLS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        found = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if found is not None and found.loader is not None:
            found.loader = _CallingLoader(found.loader)
        return found


class _CallingLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _CALLS[module.__name__](module)

    def __getattr__(self, name: str) -> Any:
        # Sources for tracebacks, resources, and the like.
        return getattr(self._loader, name)
