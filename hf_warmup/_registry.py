"""A name that never moves: a pickled scheduler name calls `hf_warmup._registry._load_member`."""

from transformers.trainer_utils import SchedulerType


def _load_member(name: str) -> SchedulerType:
    """The member of that name; importing this file has imported the package, which registers its own names."""
    return SchedulerType(name)
