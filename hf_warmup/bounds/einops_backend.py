"""Lets einops, where a model uses it, work on intervals: by the methods that an interval shares with tensors."""

import sys
from importlib import import_module
from typing import Any

from hf_warmup.bounds.interval import Interval


_known: list[type] = []


def teach_einops() -> None:
    """Make intervals known to einops, if it is imported; it finds backends among the subclasses of its own."""
    if _known or "einops" not in sys.modules:
        return
    base: Any = import_module("einops._backends").TorchBackend

    class IntervalBackend(base):  # type: ignore[misc]
        framework_name = "hf_warmup"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Interval)

    _known.append(IntervalBackend)
