"""Rules of operations that are affine in an interval.

An affine map takes the center as it takes a point and the radius through its absolute weights. Source: Shi et al.,
arXiv 2103.17268, equation 3.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, copied, made, shared
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules.spelling import everywhere


# Absolute weights of a linear layer that are held at once.
_PIECE = 2**20


def linear(input: Any, weight: Any, bias: Any = None) -> Interval:
    """`F.linear`; the result remembers where it came from."""
    check_only_first(input, weight, bias)

    def absolutely(x: Tensor, b: Tensor | None) -> Tensor:
        # Absolute weights take much memory: without gradients a few rows at a time.
        few = weight.dim() == 2 and not torch.is_grad_enabled()
        parts = weight.split(max(1, _PIECE // weight.shape[1])) if few else [weight]
        found = torch.cat([F.linear(x, part.abs()) for part in parts], -1) if few else F.linear(x, weight.abs())
        return found if b is None else found + b

    result = _affine(F.linear, input, weight, bias, terms=weight.shape[-1], absolutely=absolutely)
    return shared(result, provenance=Affine(input, weight, bias) if weight.dim() == 2 else None)


def convolution(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `F.conv1d`, `F.conv2d`; zero padding pads center and radius with zeros, which is exact."""

    def rule(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Interval:
        check_only_first(input, weight, bias)

        def apply(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return function(x, w, b, stride, padding, dilation, groups)

        return _affine(apply, input, weight, bias, terms=math.prod(weight.shape[1:]))

    return rule


def transposed_convolution(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `F.conv_transpose1d` and its kin."""

    def rule(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Interval:
        check_only_first(input, weight, bias)

        def apply(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return function(x, w, b, stride, padding, output_padding, groups, dilation)

        return _affine(apply, input, weight, bias, terms=weight[:, 0].numel())

    return rule


def _affine(
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x: Interval,
    weight: Tensor,
    bias: Any,
    *,
    terms: int,
    absolutely: Callable[[Tensor, Tensor | None], Tensor] | None = None,
) -> Interval:
    if absolutely is None:
        magnitudes = weight.abs()

        def absolutely(y: Tensor, b: Tensor | None) -> Tensor:
            return apply(y, magnitudes, b)

    center, radius = apply(x.center, weight, bias), absolutely(x.radius, None)
    magnitude = None
    if x.rounding:
        magnitude = absolutely(x.center.abs() + x.radius, None if bias is None else bias.abs())
    return made(x, apply(x.clean, weight, bias), center, radius, magnitude=magnitude, terms=terms + 2)


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
    """`F.batch_norm`. In training the statistics are the clean batch's, and carry gradient; running ones move once.

    Source: Shi et al., section 3.3.2.
    """
    if training and input.rounding:
        raise UnsupportedOperation(
            "batch_norm with statistics of the batch has no proof: an image's logits depend on the others"
        )
    clean = F.batch_norm(input.clean, running_mean, running_var, weight, bias, training, momentum, eps)
    mean, variance = channel_statistics(input, running_mean, running_var, training)
    scale, shift = scale_and_shift(mean, torch.rsqrt(variance + eps), weight, bias)
    per_channel = [1, -1] + [1] * (input.dim() - 2)
    scale, shift = scale.view(per_channel), shift.view(per_channel)
    magnitude = None
    if input.rounding:
        spread = mean.abs().view(per_channel) * scale.abs() + (0.0 if bias is None else bias.abs().view(per_channel))
        magnitude = (input.center.abs() + input.radius) * scale.abs() + spread
    center = input.center * scale + shift
    return made(input, clean, center, input.radius * scale.abs(), magnitude=magnitude, terms=8)


def channel_statistics(
    input: Interval, running_mean: Tensor | None, running_var: Tensor | None, training: bool
) -> tuple[Tensor, Tensor]:
    """Mean and variance by which `F.batch_norm` normalizes each channel, (C,) each: the clean batch's, or running."""
    if training or running_mean is None or running_var is None:
        variance, mean = torch.var_mean(input.clean, [d for d in range(input.dim()) if d != 1], correction=0)
        return mean, variance
    return running_mean, running_var


def scale_and_shift(
    mean: Tensor, inverse: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What a normalization by mean and inverse deviation multiplies each channel by and then adds, (C,) each."""
    scale = inverse if weight is None else inverse * weight
    return scale, -mean * scale if bias is None else bias - mean * scale


def add(input: Any, other: Any, *, alpha: float = 1) -> Interval:
    """Sum; two intervals are taken as independent, as the residual branches of a network are."""
    if alpha != 1:
        raise UnsupportedOperation("add with alpha has no rule; multiply the second operand by it")
    a, b = as_interval(input, other), as_interval(other, input)
    magnitude = a.center.abs() + a.radius + b.center.abs() + b.radius if a.rounding else None
    result = made(a, a.clean + b.clean, a.center + b.center, _plus(a.radius, b.radius), magnitude=magnitude)
    if not a.rounding or isinstance(input, Interval) == isinstance(other, Interval):
        return result
    # A mask's -inf makes any finite score exactly that.
    mask, scores = (b.center, a) if isinstance(input, Interval) else (a.center, b)
    masked = (mask == -math.inf) & torch.isfinite(scores.center.abs() + scores.radius)
    return shared(result, radius=result.radius.masked_fill(masked, 0.0))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Interval:
    """Difference."""
    return add(input, neg(other), alpha=alpha)


def neg(input: Any) -> Any:
    """Negative."""
    if not isinstance(input, Interval):
        return -input
    return copied(input, clean=-input.clean, center=-input.center)


def as_interval(value: Any, like: Any) -> Interval:
    """`value` if it is an interval; a constant as one of radius 0, with the tape, rounding and rules of `like`."""
    if isinstance(value, Interval):
        return value
    constant = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    zero = torch.zeros((), dtype=like.dtype, device=like.device).expand(constant.shape)
    return Interval(constant, constant, zero, tape=like.tape, rounding=like.rounding, rules=like.rules)


def _plus(a: Tensor, b: Tensor) -> Tensor:
    return a + b


def check_only_first(input: Any, *constants: Any) -> None:
    """Raise UnsupportedOperation unless the input is an interval and everything else is known exactly."""
    if not isinstance(input, Interval) or any(isinstance(constant, Interval) for constant in constants):
        raise UnsupportedOperation("an affine map whose weights are intervals has no rule")


_CONVOLUTIONS = (torch.conv1d, F.conv1d, torch.conv2d, F.conv2d, torch.conv3d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

TABLE: dict[Callable[..., Any], Rule] = {
    F.linear: linear,
    **{function: convolution(function) for function in _CONVOLUTIONS},
    **{function: transposed_convolution(function) for function in _TRANSPOSED},
    F.batch_norm: batch_norm,
    **everywhere({"add": add, "sub": sub, "subtract": sub, "neg": neg, "negative": neg}),
    Tensor.__add__: add,
    Tensor.__radd__: add,
    Tensor.__sub__: sub,
    Tensor.__rsub__: lambda input, other: sub(other, input),
}
