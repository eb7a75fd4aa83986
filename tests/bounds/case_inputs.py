"""What the cases of rules are filled in with: constants, shapes of inputs, and calls of more than a line."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from hf_warmup.bounds import Interval
from hf_warmup.bounds.interval import apply_rule
from hf_warmup.bounds.provenance import parts


torch.manual_seed(0)
DOUBLE = {"dtype": torch.float64}
W1, W2 = torch.randn(5, 3, 3, **DOUBLE), torch.randn(4, 3, 3, 3, **DOUBLE)
LINEAR, BIAS = torch.randn(7, 6, **DOUBLE), torch.randn(7, **DOUBLE)
CONSTANT = torch.randn(2, 3, 6, **DOUBLE)
MATRIX = torch.randn(6, 4, **DOUBLE)
MEAN, VARIANCE, GAMMA, BETA = (
    torch.randn(3, **DOUBLE),
    torch.rand(3, **DOUBLE) + 0.1,
    CONSTANT[0, :, 0],
    CONSTANT[0, :, 1],
)
W3 = torch.randn(2, 1, 3, 3, 3, **DOUBLE)
PROJECTIONS = 0.3 * torch.randn(18, 6, **DOUBLE)
# What tests in float32 replace by the same numbers in float32.
CONSTANTS = "W1 W2 W3 LINEAR BIAS CONSTANT MATRIX MEAN VARIANCE GAMMA BETA PROJECTIONS".split()
FLAT, IMAGE, VOLUME = (2, 3, 6), (2, 3, 6, 6), (2, 1, 4, 4, 4)
INDEX, CHOSEN = torch.tensor([2, 0]), torch.tensor([[[0, 5], [1, 1], [3, 2]]] * 2)
MASK = torch.tensor([True, False, True, True, False, True])
Call = Callable[[Any], Any]
Case = tuple[tuple[int, ...], Call | None]


def positive(x: Any) -> Any:
    return x * x + 0.1


def heads(x: Any, **options: Any) -> Any:
    """An attention of two heads over 3 places of 2 images, with every mask."""
    padding = torch.tensor([[False, False, True], [False, False, False]])
    values = (x.transpose(0, 1),) * 3
    last = LINEAR[:6], BIAS[:6]
    fixed = (6, 2, PROJECTIONS, PROJECTIONS[:, 0], None, None, False, 0.0, *last, False)
    mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
    result, shares = F.multi_head_attention_forward(*values, *fixed, padding, attn_mask=mask, **options)
    return torch.cat([result.transpose(0, 1), shares], -1)


def assigned(x: Any) -> Any:
    copy = x.clone()
    copy[:, 0] = 2.0
    copy[:, 1, MASK] = x[:, 2, MASK]
    copy.mul_(3)
    return copy + 0.0


def dispatched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The operation, as it is called of an interval: a method's descriptor itself takes tensors alone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        bounded = any(isinstance(part, Interval) for part in parts((*args, *kwargs.values())))
        return apply_rule(function, args, kwargs) if bounded else function(*args, **kwargs)

    return call
