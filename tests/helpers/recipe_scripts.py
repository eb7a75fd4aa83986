"""Programs of `recipes/` as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType


RECIPES = Path(__file__).parents[2] / "recipes"


def load(name: str) -> ModuleType:
    """The program at `recipes/NAME`."""
    path = RECIPES / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
