"""Where the programs of theory lie, and how a test loads one."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


THEORY = Path(__file__).parents[2] / "recipes" / "theory"
PROGRAMS = ("quartic", "warmup_gap", "stochastic_gap", "river_valley")


def load(name: str) -> ModuleType:
    """A program, with its own folder first on the path as when it is run."""
    sys.path.insert(0, str(THEORY))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(THEORY))


common, quartic, walled_valley, warmup_gap, stochastic_gap, rivers, networks = map(
    load, ("common", "quartic", "walled_valley", "warmup_gap", "stochastic_gap", "rivers", "networks")
)
