"""Rules of products, with constants and of two intervals.

Source: Rump, "Fast and parallel interval arithmetic", BIT 39, 1999.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, made
from hf_warmup.bounds.rules.affine import as_interval


def mul(input: Any, other: Any) -> Interval:
    """Elementwise product, with a constant or of two intervals."""
    a, b = as_interval(input, other), as_interval(other, input)
    return _product(torch.mul, a, b, terms=3)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Interval:
    """Quotient by a constant."""
    if isinstance(other, Interval) or rounding_mode is not None:
        raise UnsupportedOperation("div by an interval, or with rounding_mode, has no rule")
    divisor = torch.as_tensor(other, dtype=input.dtype, device=input.device)
    center, radius = input.center / divisor, input.radius / divisor.abs()
    return made(input, input.clean / other, center, radius, terms=3)


def matmul(input: Any, other: Any) -> Interval:
    """Matrix product, with a constant on either side or of two intervals."""
    a, b = as_interval(input, other), as_interval(other, input)
    return _product(torch.matmul, a, b, terms=a.shape[-1] + 3)


def _product(multiply: Callable[[Tensor, Tensor], Tensor], a: Interval, b: Interval, *, terms: int) -> Interval:
    radius = multiply(a.center.abs(), b.radius) + multiply(a.radius, b.center.abs() + b.radius)
    magnitude = multiply(a.center.abs() + a.radius, b.center.abs() + b.radius) if a.rounding else None
    return made(a, multiply(a.clean, b.clean), multiply(a.center, b.center), radius, magnitude=magnitude, terms=terms)
