"""Rules of operations that move, repeat or join elements."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, copied, shared
from hf_warmup.bounds.rules.affine import as_interval
from hf_warmup.bounds.rules.elementwise import kept_order
from hf_warmup.bounds.rules.reductions import average
from hf_warmup.bounds.rules.spelling import each, plain, spelled


def same_shape_change(function: Callable[..., Any], *, in_order: bool = False) -> Callable[..., Any]:
    """Rule of operations that only move elements: they do the same to clean, center and radius.

    Args:
        function: the operation.
        in_order: it changes nothing where it leaves the shape as it is, so what the elements came from is kept.
    """

    def rule(input: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(input, Interval) or any(isinstance(part, Interval) for part in args):
            # Only `expand_as` and its kin take a second tensor, for its shape.
            return _like(function, input, *args, **kwargs)
        clean, center, radius = (function(part, *args, **kwargs) for part in (input.clean, input.center, input.radius))
        if isinstance(clean, tuple | list):
            return tuple(
                shared(input, clean=a, center=b, radius=c) for a, b, c in zip(clean, center, radius, strict=True)
            )
        kept = kept_order(input) if in_order and clean.shape == input.shape else None
        return shared(input, clean=clean, center=center, radius=radius, provenance=kept)

    return rule


def in_order(function: Callable[..., Any]) -> Rule:
    """Rule of operations that keep the elements' order."""
    return same_shape_change(function, in_order=True)


def _like(function: Callable[..., Any], input: Any, *args: Any, **kwargs: Any) -> Any:
    name = getattr(function, "__name__", "")
    if name not in _AS:
        raise UnsupportedOperation(f"{name} that depends on an interval's numbers has no rule")
    if not isinstance(input, Interval):
        return function(input, *map(plain, args), **kwargs)
    return same_shape_change(function, in_order=True)(input, *map(plain, args), **kwargs)


def joined(function: Callable[..., Tensor]) -> Callable[..., Interval]:
    """Rule of `cat` and its kin; constants among the parts have radius 0."""

    def rule(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Interval:
        like = next(part for part in tensors if isinstance(part, Interval))
        if any(isinstance(part, Interval) and part.dtype != like.dtype for part in tensors):
            raise UnsupportedOperation("joining intervals of several dtypes has no rule")
        parts = [as_interval(part, like) for part in tensors]
        along = () if function in _STACKS else (dim if axis is None else axis,)
        clean, center, radius = (
            function([getattr(part, name) for part in parts], *along) for name in ("clean", "center", "radius")
        )
        return copied(like, clean=clean, center=center, radius=radius)

    return rule


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Interval:
    """`F.pad`; what is added by "constant" is known exactly."""
    values = {"value": value} if mode == "constant" else {}
    clean, center = (F.pad(part, pad, mode, **values) for part in (input.clean, input.center))
    return copied(input, clean=clean, center=center, radius=F.pad(input.radius, pad, mode))


def clone(input: Any, **kwargs: Any) -> Interval:
    """A copy, which operations in place on either leave alone."""
    return copied(input, provenance=kept_order(input))


def _fold_terms(input: Any, output_size: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> int:
    sides = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size, kernel_size)
    return int(sides[0]) * int(sides[-1])


_AS = ("expand_as", "view_as", "reshape_as")
_STACKS = (torch.hstack, torch.vstack, torch.dstack)
# They change nothing where they leave the shape as it is.
_IN_ORDER = ("flatten", "reshape", "squeeze", "expand", "contiguous", "unflatten", "ravel", *_AS)
_MOVED = (
    *("permute", "transpose", "t", "adjoint", "swapaxes", "swapdims", "movedim", "moveaxis", "unsqueeze", "rot90"),
    *("flip", "fliplr", "flipud", "roll", "repeat", "tile", "repeat_interleave", "broadcast_to"),
    *("chunk", "split", "unbind", "tensor_split", "narrow", "select", "diagonal", "tril", "triu", "unfold"),
)
_FUNCTIONS = (F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, F.unfold)

TABLE: dict[Callable[..., Any], Rule] = {
    **each(in_order, *_IN_ORDER),
    Tensor.view: in_order(Tensor.reshape),
    **each(same_shape_change, *_MOVED),
    **{function: same_shape_change(function) for function in _FUNCTIONS},
    **{function: joined(function) for function in (torch.cat, torch.concat, torch.concatenate, torch.stack, *_STACKS)},
    **dict.fromkeys(spelled("clone"), clone),
    F.fold: average(F.fold, _fold_terms),
    F.pad: pad,
}
