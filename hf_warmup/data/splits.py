"""Which examples belong to which part: draws by one fixed seed, the same for every run and on every machine."""

import torch
from torch import Tensor

from hf_warmup.errors import ConfigError


# Seeds every draw of examples; a run's seed does not change it.
SPLIT_SEED = 0


def fixed_order(count: int) -> Tensor:
    """A permutation of `count` examples that never changes, (count,)."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def drawn(total: int, count: int | None) -> Tensor:
    """`count` of `total` examples, all for None or if there are no more, by ascending index."""
    return fixed_order(total)[:count].sort().values


def divided(total: int, held_out: int, count: int | None) -> tuple[Tensor, Tensor]:
    """`held_out` examples, and `count` of the others (all for None); two ascending rows of indices.

    Raises:
        ConfigError: if nothing would be left.
    """
    if held_out >= total:
        raise ConfigError(f"data.validation: {held_out} cannot be taken out of {total} training examples.")
    order = fixed_order(total)
    return order[:held_out].sort().values, order[held_out:][:count].sort().values
