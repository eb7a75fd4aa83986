"""What the schedules have to say to a person: once, by one process, with the package's name in front."""

import logging
import os

import torch


logger = logging.getLogger(__name__)

_said: set[str] = set()


def say_once(message: str) -> None:
    """Log a warning on the first process, unless this process has logged the same before."""
    if _rank() == 0 and message not in _said:
        _said.add(message)
        logger.warning("hf_warmup: %s", message)


def forget() -> set[str]:
    """Let everything be said again; returns what was said, for `remember`."""
    before = set(_said)
    _said.clear()
    return before


def remember(said: set[str]) -> None:
    """Undo `forget`."""
    _said.update(said)


def _rank() -> int:
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
