"""A second table of rules for training: the same bounds up to rounding, computed with fewer passes over memory.

Operations that it does not know are bounded by `RULES`, one by one. It has no bounds on rounding errors, so an
interval with `rounding` set never uses it, and no certificate rests on it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.fast.folding import batch_norm, convolution
from hf_warmup.bounds.fast.linear_layer import linear
from hf_warmup.bounds.fast.relu import Moments, relu
from hf_warmup.bounds.interval import Rule
from hf_warmup.bounds.rules import RULES


FAST_RULES: dict[Callable[..., Any], Rule] = {
    **RULES,
    F.linear: linear,
    F.conv1d: convolution(F.conv1d),
    torch.conv1d: convolution(F.conv1d),
    F.conv2d: convolution(F.conv2d),
    torch.conv2d: convolution(F.conv2d),
    F.batch_norm: batch_norm,
    F.relu: relu,
    torch.relu: relu,
    Tensor.relu: relu,
}

__all__ = ["FAST_RULES", "Moments"]
