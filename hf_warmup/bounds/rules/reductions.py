"""Rules over several elements along dimensions: sums and means, extremes and orders, norms."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, from_ends, made, shared
from hf_warmup.bounds.operators import Operators
from hf_warmup.bounds.rules.conversions import in_dtype
from hf_warmup.bounds.rules.elementwise import ULPS, of_two
from hf_warmup.bounds.rules.products import div, square
from hf_warmup.bounds.rules.spelling import cleanly, each, spelled


def average(function: Callable[..., Tensor], count: Callable[..., int] | None = None) -> Callable[..., Interval]:
    """Rule of sums, means and average pooling: weights are positive, so the radius goes the center's way.

    Args:
        function: the operation.
        count: (input, *args, **kwargs) -> number of elements that are averaged, for the rounding bound; by default
            what the whole has over what is left of it, which other images of the batch do not change.
    """

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        if kwargs.get("dtype") is not None:
            input = in_dtype(input, kwargs["dtype"])
            kwargs = {name: value for name, value in kwargs.items() if name != "dtype"}
        magnitude = function(input.center.abs() + input.radius, *args, **kwargs) if input.rounding else None
        parts = [function(part, *args, **kwargs) for part in (input.clean, input.center, input.radius)]
        whole = input.numel() // max(1, parts[0].numel())
        terms = whole if count is None else count(input, *args, **kwargs)
        return made(input, *parts, magnitude=magnitude, terms=terms + 1)

    return rule


def monotone_in_each(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rule of what never falls in any element: extremes and, if none is undefined, orders."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        clean, lower, upper = (function(part, *args, **kwargs) for part in (input.clean, input.lower, input.upper))
        return from_ends(input, clean, lower, upper)

    return rule


class _PlaceUnknown(UnsupportedOperation, AttributeError):
    pass


class Unknown(Operators):
    """Places of extremes, which are no function of a box: whatever uses them raises."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls()._apply(func)

    def _apply(self, func: Any, *args: Any) -> Any:
        raise _PlaceUnknown("which elements are the largest or smallest depends on pixels, and has no rule")

    _in_place = _apply

    def __getattr__(self, name: str) -> Any:
        return self._apply(name)

    def __bool__(self) -> bool:
        return bool(self._apply(bool))

    def __index__(self) -> int:
        return int(self._apply(int))


class Ordered(NamedTuple):
    """As torch's own results of these operations."""

    values: Any
    indices: Any


def extremes(function: Callable[..., Any], dimwise: Callable[..., Tensor], two: Callable[..., Tensor]) -> Rule:
    """Rule of `max` and `min`: of everything, along a dimension or of two tensors.

    Args:
        function: torch.max or torch.min.
        dimwise: torch.amax or torch.amin.
        two: torch.maximum or torch.minimum.
    """

    def rule(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        other = dim if isinstance(dim, Tensor | Interval) else other
        if other is not None:
            return of_two(two)(input, other)
        if dim is None:
            return monotone_in_each(function)(input)
        return Ordered(monotone_in_each(dimwise)(input, dim, keepdim), Unknown())

    return rule


def ordered(function: Callable[..., Any]) -> Rule:
    """Rule of `sort` and `topk`: the k-th largest number never falls in any element; its place is unknown."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Any:
        # Not a number is sorted as the largest, which undefined numbers need not be.
        lost = (input.center + input.radius).sum() * 0
        values = monotone_in_each(lambda x: function(x, *args, **kwargs)[0] + lost.to(x.dtype))(input)
        return Ordered(shared(values, clean=function(input.clean, *args, **kwargs)[0]), Unknown())

    return rule


def norm(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: None = None, dtype: Any = None
) -> Interval:
    """`torch.norm` and its kin for p >= 1: it rises in the absolute value of every element."""
    p = 2.0 if p is None or p == "fro" else p
    if isinstance(p, str) or p < 1:
        raise UnsupportedOperation(f"a norm with p={p!r} has no rule; only numbers of at least 1, and infinity")
    input = in_dtype(input, dtype)
    low, high = input.lower, input.upper
    inside = torch.where((low <= 0) & (high >= 0), torch.zeros_like(low), torch.minimum(low.abs(), high.abs()))
    outside = torch.maximum(low.abs(), high.abs())
    ends = [torch.linalg.vector_norm(end, p, dim, keepdim) for end in (inside, outside)]
    terms = input.numel() // max(1, ends[0].numel())
    # A power and its root, each of a few units; a square that underflows is less than the root of the smallest number.
    unit, range_ = 2.0 * input.rounding * (terms + 4 * ULPS), torch.finfo(low.dtype)
    small = terms * math.sqrt(range_.tiny) if input.rounding else 0.0
    clean = torch.linalg.vector_norm(input.clean, p, dim, keepdim)
    return from_ends(input, clean, (ends[0] * (1 - unit) - small).clamp(min=0), ends[1] * (1 + unit) + small)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Interval:
    """`torch.linalg.vector_norm`."""
    return norm(x, ord, dim, keepdim, dtype=dtype)


def linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Interval:  # noqa: N803
    """`torch.linalg.norm` where it is one of vectors."""
    if ord not in (None, "fro") and (A.dim() if dim is None else len(dim) if isinstance(dim, Sequence) else 1) > 1:
        raise UnsupportedOperation("linalg.norm of matrices has no rule but for ord=None and ord='fro'")
    return norm(A, ord, dim, keepdim, dtype=dtype)


def variance(input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = 1) -> Any:
    """`torch.var`: the squares of deviations from the mean, summed."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    over = list(range(input.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    n = math.prod(input.shape[d] for d in over)
    freedom = n - (correction if unbiased is None else int(unbiased))
    center = input.center - input.center.mean(over, keepdim=True)
    radius = (1 - 2 / n) * input.radius + input.radius.mean(over, keepdim=True)
    magnitude = input.center.abs() + input.radius
    magnitude = magnitude + magnitude.mean(over, keepdim=True)
    deviation = made(input, center, center, radius.clamp(min=0), magnitude=magnitude, terms=n + 2)
    return div(average(torch.sum)(square(deviation), over, keepdim), freedom)


def variance_and_mean(input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """`torch.var_mean`."""
    over = list(range(input.dim())) if dim is None or isinstance(dim, bool) else dim
    mean = average(torch.mean)(input, over, keepdim)
    return variance(input, dim, unbiased, keepdim, **kwargs), mean


TABLE: dict[Callable[..., Any], Rule] = {
    **each(average, "mean", "sum"),
    **each(lambda function: average(function, lambda input, *args, **kwargs: max(input.shape)), "cumsum"),
    **each(monotone_in_each, "amax", "amin"),
    **dict.fromkeys(spelled("max"), extremes(torch.max, torch.amax, torch.maximum)),
    **dict.fromkeys(spelled("min"), extremes(torch.min, torch.amin, torch.minimum)),
    **each(ordered, "sort", "topk"),
    **dict.fromkeys(spelled("norm"), norm),
    torch.linalg.vector_norm: vector_norm,
    torch.linalg.norm: linalg_norm,
    **each(lambda function: cleanly(function, variance), "var"),
    torch.var_mean: cleanly(torch.var_mean, variance_and_mean),
}
