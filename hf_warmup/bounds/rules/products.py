"""Rules of elementwise products, quotients and powers: of two intervals by their four corners, which is exact."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, copied, made, shared
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules.affine import add, as_interval
from hf_warmup.bounds.rules.elementwise import kinked, monotone, undefined
from hf_warmup.bounds.rules.spelling import cleanly, each, everywhere


def mul(input: Any, other: Any) -> Interval:
    """Elementwise product, with a constant or of two intervals; an interval times itself is a square."""
    if input is other:
        return square(input)
    if isinstance(input, Interval) and isinstance(other, Interval):
        low, high, most = _corners(input, other)
        clean, center, radius = input.clean * other.clean, (low + high) / 2, (high - low) / 2
        return made(input, clean, center, radius, magnitude=2 * most if input.rounding else None, terms=4)
    a, b = as_interval(input, other), as_interval(other, input)
    result = rump(torch.mul, a, b, terms=3)
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
    """1 / x; not a number where x may be 0."""
    low, high = input.lower, input.upper
    ends = 1 / high, 1 / low
    center, radius = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    magnitude = ends[0].abs() + ends[1].abs() if input.rounding else None
    result = made(input, 1 / input.clean, center, radius, magnitude=magnitude, terms=4)
    return undefined(result, (low <= 0) & (high >= 0), "a quotient")


def power(input: Any, exponent: Any) -> Interval:
    """`pow` with a number for base or exponent; not a number where a base below 0 has no such power."""
    if not isinstance(input, Interval):
        return _exponential(input, exponent)
    if isinstance(exponent, Tensor) and exponent.numel() == 1:
        exponent = exponent.item()
    if isinstance(exponent, Tensor | Interval):
        raise UnsupportedOperation("pow with other exponents than one number has no rule")
    if exponent == 2:
        return square(input)

    def function(x: Tensor) -> Tensor:
        return torch.pow(x, exponent)

    if exponent >= 0 and exponent == int(exponent):
        return (monotone if exponent % 2 else kinked)(function)(input) if exponent else _ones(input)
    if exponent == int(exponent):
        return shared(reciprocal(power(input, -exponent)), clean=function(input.clean))
    return monotone(function, above=0.0, falling=exponent < 0)(input)


def _exponential(base: Any, exponent: Interval) -> Interval:
    if isinstance(base, Tensor) and base.numel() == 1:
        base = base.item()
    if not isinstance(base, int | float) or base <= 0:
        raise UnsupportedOperation("pow of other constants than one positive number has no rule")
    return monotone(lambda x: torch.pow(base, x), falling=base < 1)(exponent)


def _ones(input: Interval) -> Interval:
    one, zero = torch.ones_like(input.clean), torch.zeros_like(input.clean)
    return copied(input, clean=one, center=one, radius=zero)


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Interval:
    """Sum and a product."""
    return add(input, mul(mul(tensor1, tensor2), value))


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Interval:
    """Sum and a quotient."""
    return add(input, mul(div(tensor1, tensor2), value))


def lerp(input: Any, end: Any, weight: Any) -> Interval:
    """Weighted mean of two, with a constant weight: each has a coefficient of its own."""
    if isinstance(weight, Interval):
        raise UnsupportedOperation("lerp with weights that are intervals has no rule")
    return add(input * (1 - weight), end * weight)


def glu(input: Any, dim: int = -1) -> Interval:
    """One half of the features times the sigmoid of the other."""
    value, gate = input.chunk(2, dim)
    return mul(value, gate.sigmoid())


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


def _corners(a: Interval, b: Interval) -> tuple[Tensor, Tensor, Tensor]:
    """Least and greatest product, and a bound on any product's absolute value."""
    a_ends, b_ends = (a.lower, a.upper), (b.lower, b.upper)
    return *extremes(a_ends, b_ends), most(a_ends) * most(b_ends)


def extremes(left: Any, right: Any) -> tuple[Tensor, Tensor]:
    """Least and greatest product of numbers between two ends, given all four ends."""
    products = [x * y for x in left for y in right]
    low = torch.minimum(torch.minimum(products[0], products[1]), torch.minimum(products[2], products[3]))
    high = torch.maximum(torch.maximum(products[0], products[1]), torch.maximum(products[2], products[3]))
    return low, high


def most(ends: tuple[Tensor, Tensor]) -> Tensor:
    """The greatest absolute value between two ends."""
    return torch.maximum(ends[0].abs(), ends[1].abs())


def rump(multiply: Callable[[Tensor, Tensor], Tensor], a: Interval, b: Interval, *, terms: int) -> Interval:
    """Any bilinear product by centers and radii, which is exact where one side is known exactly."""
    radius = multiply(a.center.abs(), b.radius) + multiply(a.radius, b.center.abs() + b.radius)
    magnitude = multiply(a.center.abs() + a.radius, b.center.abs() + b.radius) if a.rounding else None
    return made(a, multiply(a.clean, b.clean), multiply(a.center, b.center), radius, magnitude=magnitude, terms=terms)


TABLE: dict[Callable[..., Any], Rule] = {
    **everywhere(
        {
            "mul": mul,
            "multiply": mul,
            "square": square,
            "reciprocal": reciprocal,
            "div": div,
            "divide": div,
            "true_divide": div,
            "pow": power,
        }
    ),
    **each(lambda function: cleanly(function, addcmul), "addcmul"),
    **each(lambda function: cleanly(function, addcdiv), "addcdiv"),
    **each(lambda function: cleanly(function, lerp), "lerp"),
    Tensor.__mul__: mul,
    Tensor.__rmul__: mul,
    Tensor.__truediv__: div,
    Tensor.__pow__: power,
    F.glu: cleanly(F.glu, glu),
}
