"""Rules of products: with constants, and of two intervals by their four corners, which is exact.

A matrix product of two intervals is loose by nothing either, if each product in it is taken at its corners. Where that
would keep too much for gradients or take too long, center and radius are multiplied: Rump, "Fast and parallel interval
arithmetic", BIT 39, 1999.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, made, shared
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules.affine import as_interval


# Products inside one matrix product: above this many the corners would take too long.
_MOST_PRODUCTS = 2**24
# Elements of a temporary tensor of corner products.
_BLOCK = 2**20


def mul(input: Any, other: Any) -> Interval:
    """Elementwise product, with a constant or of two intervals; an interval times itself is a square."""
    if input is other:
        return square(input)
    if isinstance(input, Interval) and isinstance(other, Interval):
        low, high, most = _corners(input, other)
        clean, center, radius = input.clean * other.clean, (low + high) / 2, (high - low) / 2
        return made(input, clean, center, radius, magnitude=2 * most if input.rounding else None, terms=4)
    a, b = as_interval(input, other), as_interval(other, input)
    result = _rump(torch.mul, a, b, terms=3)
    known, factor = (input, other) if isinstance(input, Interval) else (other, input)
    return _scaled(result, known, factor, lambda part: part * factor)


def square(input: Any) -> Interval:
    """Square, which is never negative."""
    low, high = input.lower, input.upper
    most = torch.maximum(low.abs(), high.abs()).square()
    least = torch.minimum(low.abs(), high.abs()).square()
    least = torch.where((low <= 0) & (high >= 0), torch.zeros_like(least), least)
    clean, center, radius = input.clean * input.clean, (least + most) / 2, (most - least) / 2
    return made(input, clean, center, radius, magnitude=2 * most if input.rounding else None, terms=4)


def reciprocal(input: Any) -> Interval:
    """1 / x of an interval that does not reach 0."""
    low, high = input.lower, input.upper
    if bool(((low <= 0) & (high >= 0)).any()):
        raise UnsupportedOperation(
            "div by an interval that reaches 0 has no bound; add a positive number to the divisor, or clamp it"
        )
    ends = 1 / high, 1 / low
    center, radius = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    magnitude = ends[0].abs() + ends[1].abs() if input.rounding else None
    return made(input, 1 / input.clean, center, radius, magnitude=magnitude, terms=4)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Interval:
    """Quotient by a constant, or by an interval that does not reach 0."""
    if rounding_mode is not None:
        raise UnsupportedOperation("div with rounding_mode has no rule")
    if isinstance(other, Interval):
        clean = (input.clean if isinstance(input, Interval) else input) / other.clean
        return shared(mul(input, reciprocal(other)), clean=clean)
    divisor = torch.as_tensor(other, dtype=input.dtype, device=input.device)
    center, radius = input.center / divisor, input.radius / divisor.abs()
    result = made(input, input.clean / other, center, radius, terms=3)
    return _scaled(result, input, other, lambda part: part / other)


def _scaled(result: Interval, of: Interval, factor: Any, apply: Callable[[Tensor], Tensor]) -> Interval:
    """Logits by a positive number stay the affine map that they are; its weights are rounded once more."""
    source = of.provenance
    # Far smaller or larger, weights might underflow or overflow.
    if not isinstance(source, Affine) or not isinstance(factor, int | float) or not 1e-6 <= factor <= 1e6:
        return result
    bias = None if source.bias is None else apply(source.bias)
    return shared(result, provenance=Affine(source.input, apply(source.weight), bias, source.roundings + 1))


def matmul(input: Any, other: Any) -> Interval:
    """Matrix product, with a constant on either side or of two intervals."""
    a, b = as_interval(input, other), as_interval(other, input)
    both = isinstance(input, Interval) and isinstance(other, Interval)
    if not both or min(a.dim(), b.dim()) < 2 or a.shape[-2] * a.shape[-1] * b.shape[-1] > _MOST_PRODUCTS:
        return _rump(torch.matmul, a, b, terms=a.shape[-1] + 3)
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return _rump(torch.matmul, a, b, terms=a.shape[-1] + 3)
    return _matmul_by_corners(a, b)


def _matmul_by_corners(a: Interval, b: Interval) -> Interval:
    clean = torch.matmul(a.clean, b.clean)
    center, radius = torch.zeros_like(clean), torch.zeros_like(clean)
    inner = a.shape[-1]
    block = max(1, _BLOCK // max(1, clean.numel()))
    a_ends, b_ends = (a.lower, a.upper), (b.lower, b.upper)
    for first in range(0, inner, block):
        left = [end[..., :, first : first + block, None] for end in a_ends]
        right = [end[..., None, first : first + block, :] for end in b_ends]
        low, high = _extremes(left, right)
        center += ((low + high) / 2).sum(-2)
        radius += ((high - low) / 2).sum(-2)
    magnitude = 2 * torch.matmul(_most(a_ends), _most(b_ends)) if a.rounding else None
    return made(a, clean, center, radius, magnitude=magnitude, terms=inner + 6)


def _corners(a: Interval, b: Interval) -> tuple[Tensor, Tensor, Tensor]:
    """Least and greatest product, and a bound on any product's absolute value."""
    a_ends, b_ends = (a.lower, a.upper), (b.lower, b.upper)
    return *_extremes(a_ends, b_ends), _most(a_ends) * _most(b_ends)


def _extremes(left: Any, right: Any) -> tuple[Tensor, Tensor]:
    products = [x * y for x in left for y in right]
    low = torch.minimum(torch.minimum(products[0], products[1]), torch.minimum(products[2], products[3]))
    high = torch.maximum(torch.maximum(products[0], products[1]), torch.maximum(products[2], products[3]))
    return low, high


def _most(ends: tuple[Tensor, Tensor]) -> Tensor:
    return torch.maximum(ends[0].abs(), ends[1].abs())


def _rump(multiply: Callable[[Tensor, Tensor], Tensor], a: Interval, b: Interval, *, terms: int) -> Interval:
    radius = multiply(a.center.abs(), b.radius) + multiply(a.radius, b.center.abs() + b.radius)
    magnitude = multiply(a.center.abs() + a.radius, b.center.abs() + b.radius) if a.rounding else None
    return made(a, multiply(a.clean, b.clean), multiply(a.center, b.center), radius, magnitude=magnitude, terms=terms)
