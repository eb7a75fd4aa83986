"""Convolutions that wait for a batch normalization, which then scales their weights instead of their bounds.

`s (W * x + b) + t` is one convolution with weights `s W`, so center and radius are computed once, by weights that are
scaled at their own, small size. The clean tensor goes through convolution and normalization as ever.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds import affine_rules as plain
from hf_warmup.bounds.fast.statistics import normalized
from hf_warmup.bounds.interval import Convolution, Interval


class Unbounded(Interval):
    """A convolution's result whose center and radius are computed when somebody asks for them, once."""

    def __init__(self, clean: Tensor, source: Convolution) -> None:
        like = source.input
        values = {"clean": clean, "provenance": source, "tape": like.tape, "rounding": 0.0, "rules": like.rules}
        for name, value in (*values.items(), ("spent", [])):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in ("center", "radius"):
            return super().__getattr__(name)
        source: Any = self.provenance
        for part, value in zip(("center", "radius"), _bounds(source, source.weight, source.bias), strict=True):
            object.__setattr__(self, part, value)
        return self.__dict__[name]


def convolution(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `F.conv1d`, `F.conv2d`."""

    def rule(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Interval:
        plain.check_only_first(input, weight, bias)

        def apply(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return function(_channels_last(x), w, b, stride, padding, dilation, groups)

        source = Convolution(input, weight, bias, apply)
        clean = apply(input.clean, weight, bias)
        if not torch.compiler.is_compiling():
            return Unbounded(clean, source)
        # The compiler removes what turns out not to be needed.
        center, radius = _bounds(source, weight, bias)
        return Interval(clean, center, radius, source, tape=input.tape, rules=input.rules)

    return rule


def _channels_last(x: Tensor) -> Tensor:
    """Gray images lie in memory in both orders at once, of which torch takes the slower one if it is not told."""
    if x.dim() != 4 or x.shape[1] != 1 or not x.is_contiguous() or torch.compiler.is_compiling():
        return x
    height, width = x.shape[2:]
    return x.as_strided(x.shape, (height * width, 1, width, 1))


def _folded(source: Convolution, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Center and radius of `scale (W * x + b) + shift`, both per channel."""
    weight = source.weight * scale.view(-1, *[1] * (source.weight.dim() - 1))
    return _bounds(source, weight, shift if source.bias is None else source.bias * scale + shift)


def _bounds(source: Convolution, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    x = source.input
    return source.apply(x.center, weight, bias), source.apply(x.radius, weight.abs(), None)


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Interval:
    """`F.batch_norm`, with the clean batch's statistics in training; folded into a convolution that comes before."""
    clean, scale, shift = normalized(input.clean, running_mean, running_var, weight, bias, training, momentum, eps)
    source = input.provenance
    if isinstance(source, Convolution) and clean.dim() == source.weight.dim():
        center, radius = _folded(source, scale, shift)
    else:
        per_channel = [1, -1] + [1] * (clean.dim() - 2)
        scale, shift = scale.view(per_channel), shift.view(per_channel)
        center, radius = torch.addcmul(shift, input.center, scale), input.radius * scale.abs()
    return Interval(clean, center, radius, tape=input.tape, rules=input.rules)
