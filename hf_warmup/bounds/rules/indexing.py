"""Rules of taking and of replacing elements, at places that are constants."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, copied, shared
from hf_warmup.bounds.provenance import Affine, parts
from hf_warmup.bounds.rules.affine import as_interval
from hf_warmup.bounds.rules.shape import same_shape_change
from hf_warmup.bounds.rules.spelling import each, spelled


def item(input: Any, index: Any) -> Any:
    """Indexing; slices that change no shape, or that take some of the classes, keep where logits came from."""
    entries = index if isinstance(index, tuple) else (index,)
    _check_constant(entries)
    sliced = all(isinstance(entry, slice) or entry is Ellipsis for entry in entries)
    result: Interval = same_shape_change(Tensor.__getitem__, in_order=sliced)(input, index)
    source = input.provenance
    classes = sliced and Ellipsis not in entries and len(entries) == 2 and input.dim() == 2
    if not classes or not isinstance(source, Affine) or result.shape[0] != input.shape[0]:
        return result
    bias = None if source.bias is None else source.bias[entries[1]]
    kept = Affine(source.input, source.weight[entries[1]], bias, source.roundings)
    return shared(result, provenance=kept)


def assigned(input: Any, index: Any, value: Any) -> Interval:
    """What an interval is after `input[index] = value`."""
    if not isinstance(input, Interval):
        raise UnsupportedOperation(
            "assigning an interval to part of a constant has no rule; join them by torch.cat, torch.stack or "
            "torch.where, or begin with a copy of an interval"
        )
    _check_constant(index if isinstance(index, tuple) else (index,))
    new = as_interval(value, input)
    if new.dtype != input.dtype:
        raise UnsupportedOperation(f"assigning an interval in {new.dtype} to one in {input.dtype} has no rule")
    changed = {}
    for name in ("clean", "center", "radius"):
        changed[name] = getattr(input, name).clone()
        changed[name][index] = getattr(new, name)
    return copied(input, **changed)


def where(condition: Any, input: Any = None, other: Any = None) -> Interval:
    """`torch.where` with a constant condition."""
    if isinstance(condition, Interval) or input is None or other is None:
        raise UnsupportedOperation("where with a condition that depends on an interval has no rule")
    like = input if isinstance(input, Interval) else other
    a, b = as_interval(input, like), as_interval(other, like)
    if a.dtype != b.dtype:
        raise UnsupportedOperation(f"where of intervals in {a.dtype} and {b.dtype} has no rule")
    clean, center, radius = (
        torch.where(condition, getattr(a, name), getattr(b, name)) for name in ("clean", "center", "radius")
    )
    return copied(like, clean=clean, center=center, radius=radius)


def masked_fill(input: Any, mask: Any, value: Any) -> Interval:
    """Elements replaced by one number where a constant mask says so."""
    if not isinstance(input, Interval) or isinstance(mask, Interval) or isinstance(value, Interval):
        raise UnsupportedOperation("masked_fill that depends on an interval has no rule")
    clean, center = (part.masked_fill(mask, value) for part in (input.clean, input.center))
    return copied(input, clean=clean, center=center, radius=input.radius.masked_fill(mask, 0.0))


def _check_constant(index: Any) -> None:
    if any(isinstance(part, Interval) for part in parts(index)):
        raise UnsupportedOperation("an index that is an interval has no rule")


TABLE: dict[Callable[..., Any], Rule] = {
    **each(same_shape_change, "index_select", "gather", "take_along_dim", "masked_select"),
    **dict.fromkeys(spelled("masked_fill"), masked_fill),
    torch.where: where,
    Tensor.where: lambda input, condition, other: where(condition, input, other),
    Tensor.__getitem__: item,
    Tensor.__setitem__: assigned,
}
