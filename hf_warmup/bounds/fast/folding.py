"""Convolutions that wait for a batch normalization, which then scales their weights instead of their bounds.

`s (W * x + b) + t` is one convolution with weights `s W`, so center and radius are computed once, by weights that are
scaled at their own, small size. The clean tensor goes through convolution and normalization as ever.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.fast.batch_norm import normalized
from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.provenance import Convolution
from hf_warmup.bounds.rules import affine as plain
from hf_warmup.bounds.rules.affine import scale_and_shift


class Unbounded(Interval):
    """A convolution's result whose parts are computed when somebody asks for them, once.

    Where there are no gradients the clean tensor waits as well: then a batch normalization folds all three.
    """

    def __init__(self, source: Convolution, clean: Tensor | None = None) -> None:
        like = source.input
        values: dict[str, Any] = {"provenance": source, "tape": like.tape, "rounding": 0.0, "rules": like.rules}
        if clean is not None:
            values["clean"] = clean
        for name, value in (*values.items(), ("spent", []), ("became", [])):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "clean":
            self._keep(clean=_clean(self._source()))
        elif name in ("center", "radius"):
            self._keep(**dict(zip(("center", "radius"), _bounds(self._source()), strict=True)))
        else:
            return super().__getattr__(name)
        return self.__dict__[name]

    def dim(self) -> int:
        """Number of dimensions, which a convolution does not change."""
        return int(self._source().input.dim())

    def only_copy(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Clean tensor, center and radius as tensors that nobody else has, to be changed at will.

        They are computed for the caller and not kept: whoever asks this interval again has them computed anew. None
        if a part was computed before, since somebody may hold it.
        """
        if self.__dict__.keys() & {"clean", "center", "radius"}:
            return None
        source = self._source()
        return _clean(source), *_bounds(source)

    def _source(self) -> Convolution:
        assert isinstance(self.provenance, Convolution)
        return self.provenance

    def _keep(self, **parts: Tensor) -> None:
        for name, value in parts.items():
            object.__setattr__(self, name, value)


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
        if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return Unbounded(source)
        clean = _clean(source)
        if not torch.compiler.is_compiling():
            return Unbounded(source, clean)
        # The compiler removes what turns out not to be needed.
        center, radius = _bounds(source)
        return Interval(clean, center, radius, source, tape=input.tape, rules=input.rules)

    return rule


def _channels_last(x: Tensor) -> Tensor:
    """Gray images lie in memory in both orders at once, of which torch takes the slower one if it is not told."""
    if x.dim() != 4 or x.shape[1] != 1 or not x.is_contiguous() or torch.compiler.is_compiling():
        return x
    height, width = x.shape[2:]
    return x.as_strided(x.shape, (height * width, 1, width, 1))


def _folded(source: Convolution, scale: Tensor, shift: Tensor) -> Convolution:
    """`scale (W * x + b) + shift`, both per channel, as one convolution."""
    weight = source.weight * scale.view(-1, *[1] * (source.weight.dim() - 1))
    bias = shift if source.bias is None else source.bias * scale + shift
    return Convolution(source.input, weight, bias, source.apply)


def _clean(source: Convolution) -> Tensor:
    return source.apply(source.input.clean, source.weight, source.bias)


def _bounds(source: Convolution) -> tuple[Tensor, Tensor]:
    x = source.input
    return source.apply(x.center, source.weight, source.bias), source.apply(x.radius, source.weight.abs(), None)


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
    source = input.provenance if isinstance(input.provenance, Convolution) else None
    if source is not None and input.dim() != source.weight.dim():
        source = None  # an image without a batch: its channels are elsewhere
    if source is not None and isinstance(input, Unbounded) and not torch.is_grad_enabled():
        if not training and running_mean is not None and running_var is not None:
            factors = scale_and_shift(running_mean, torch.rsqrt(running_var + eps), weight, bias)
            return Unbounded(_folded(source, *factors))
    clean, scale, shift = normalized(input.clean, running_mean, running_var, weight, bias, training, momentum, eps)
    if source is not None:
        center, radius = _bounds(_folded(source, scale, shift))
    else:
        per_channel = [1, -1] + [1] * (clean.dim() - 2)
        scale, shift = scale.view(per_channel), shift.view(per_channel)
        center, radius = torch.addcmul(shift, input.center, scale), input.radius * scale.abs()
    return Interval(clean, center, radius, tape=input.tape, rules=input.rules)
