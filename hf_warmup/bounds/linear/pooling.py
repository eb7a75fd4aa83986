"""Maximum pooling between linear bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.linear.backward import Backward, extent, gamma, weighted
from hf_warmup.bounds.provenance import Step


def max_pool2d(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of `F.max_pool2d`: a window's maximum is at least the operand whose lower end is highest.

    Where no other operand can pass that one it is the maximum; elsewhere the highest upper end stands above.
    """
    x: Interval = step.operands()[0]
    kwargs = {key: value for key, value in step.kwargs.items() if key not in ("input", "return_indices")}
    geometry = _geometry(*step.args[1:], **kwargs)
    if geometry is None or x.dim() != 4:
        return None
    size, stride, padding, dilation = geometry
    options = (size, stride, padding, dilation)
    lower, upper = x.lower, x.upper
    highest, index = F.max_pool2d(lower, *options, return_indices=True)
    decided = highest >= _highest_of_others(upper, index, *options)
    above, below = rows.clamp(min=0), rows.clamp(max=0)
    taken = (above + torch.where(decided, below, torch.zeros_like(below))).flatten(3)
    coefficients = torch.zeros((*rows.shape[:2], *x.shape[1:]), dtype=rows.dtype, device=rows.device).flatten(3)
    coefficients = coefficients.scatter_add(3, index.flatten(2).expand(rows.shape[0], -1, -1, -1), taken)
    ends = torch.where(decided, torch.zeros_like(highest), F.max_pool2d(upper, *options))
    slack = None
    if x.rounding:
        slack = gamma(2 * x.center[0].numel(), x) * weighted(rows.abs(), F.max_pool2d(extent(x), *options))
    return Backward([(x, coefficients.view(*rows.shape[:2], *x.shape[1:]))], weighted(below, ends), slack)


Pair = tuple[int, int]


def _highest_of_others(
    upper: Tensor, index: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Of each window, the highest upper end but that of the operand at `index`; -inf where there is none."""
    batch, channels, height, width = upper.shape
    places = torch.arange(height * width, dtype=upper.dtype, device=upper.device).view(1, 1, height, width)

    def windows(part: Tensor) -> Tensor:
        around = (padding[1], padding[1], padding[0], padding[0])
        found = F.unfold(F.pad(part, around, value=-torch.inf), size, dilation=dilation, stride=stride)
        return found.view(*part.shape[:2], -1, found.shape[-1])

    chosen = windows(places) == index.flatten(2)[:, :, None]
    return windows(upper).masked_fill(chosen, -torch.inf).amax(2).view_as(index)


def _geometry(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *_: Any
) -> tuple[Pair, Pair, Pair, Pair] | None:
    """Kernel, stride, padding and dilation as pairs; None where windows may be incomplete."""
    if ceil_mode:
        return None

    def pair(value: Any) -> Pair:
        return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))

    return pair(kernel_size), pair(stride or kernel_size), pair(padding), pair(dilation)
