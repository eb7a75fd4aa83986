"""Rules of operations that move, repeat or join elements, and of conversions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, copied, shared
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules.elementwise import kept_order


def same_shape_change(function: Callable[..., Any], *, in_order: bool = False) -> Callable[..., Any]:
    """Rule of operations that only move elements: they do the same to clean, center and radius.

    Args:
        function: the operation.
        in_order: it changes nothing where it leaves the shape as it is, so what the elements came from is kept.
    """

    def rule(input: Any, *args: Any, **kwargs: Any) -> Any:
        clean, center, radius = (function(part, *args, **kwargs) for part in (input.clean, input.center, input.radius))
        if isinstance(clean, tuple | list):
            return tuple(
                shared(input, clean=a, center=b, radius=c) for a, b, c in zip(clean, center, radius, strict=True)
            )
        kept = kept_order(input) if in_order and clean.shape == input.shape else None
        return shared(input, clean=clean, center=center, radius=radius, provenance=kept)

    return rule


def item(input: Any, index: Any) -> Any:
    """Indexing; slices that change no shape, or that take some of the classes, keep where logits came from."""
    entries = index if isinstance(index, tuple) else (index,)
    sliced = all(isinstance(entry, slice) or entry is Ellipsis for entry in entries)
    result: Interval = same_shape_change(Tensor.__getitem__, in_order=sliced)(input, index)
    source = input.provenance
    classes = sliced and Ellipsis not in entries and len(entries) == 2 and input.dim() == 2
    if not classes or not isinstance(source, Affine) or result.shape[0] != input.shape[0]:
        return result
    bias = None if source.bias is None else source.bias[entries[1]]
    kept = Affine(source.input, source.weight[entries[1]], bias, source.roundings)
    return shared(result, provenance=kept)


def joined(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `cat` and `stack`; constants among the parts have radius 0."""

    def rule(tensors: Any, dim: int = 0) -> Interval:
        like = next(part for part in tensors if isinstance(part, Interval))
        parts = [p if isinstance(p, Interval) else Interval(p, p, torch.zeros_like(p)) for p in tensors]
        clean, center, radius = (
            function([getattr(part, name) for part in parts], dim) for name in ("clean", "center", "radius")
        )
        return copied(like, clean=clean, center=center, radius=radius)

    return rule


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Interval:
    """`F.pad`; what is added by "constant" is known exactly."""
    values = {"value": value} if mode == "constant" else {}
    clean, center = (F.pad(part, pad, mode, **values) for part in (input.clean, input.center))
    return copied(input, clean=clean, center=center, radius=F.pad(input.radius, pad, mode))


def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any) -> Any:
    """`F.interpolate` that repeats elements."""
    if mode not in ("nearest", "nearest-exact"):
        raise UnsupportedOperation(f"interpolate with mode={mode!r} has no rule; only 'nearest' and 'nearest-exact'")
    return same_shape_change(F.interpolate)(input, size, scale_factor, mode, **options)


def convert(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `to` and its kin: the device may change, the precision may not fall."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        clean = function(input.clean, *args, **kwargs)
        if not clean.is_floating_point() or torch.finfo(clean.dtype).eps > torch.finfo(input.dtype).eps:
            raise UnsupportedOperation(f"a conversion from {input.dtype} to {clean.dtype} loses precision")
        result: Interval = same_shape_change(function, in_order=True)(input, *args, **kwargs)
        return result

    return rule
