"""Rules of conversions, and of what asks for a tensor's shape or dtype alone.

Bounds are of exact arithmetic, which knows neither float32 nor float64: an interval in float64 stays in it where a
model asks for float32. Plain passes that are compared with it do the same, under `exact.exactly`.
"""

from collections.abc import Callable
from typing import Any

import torch

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, shared
from hf_warmup.bounds.rules.elementwise import kept_order
from hf_warmup.bounds.rules.spelling import each, plain, spelled


def in_dtype(input: Interval, dtype: torch.dtype | None) -> Interval:
    """The interval for an operation that is asked for in a dtype.

    Raises:
        UnsupportedOperation: for one that is less precise than both the interval's own and float32.
    """
    if dtype is None or dtype == input.dtype or (input.dtype, dtype) == (torch.float64, torch.float32):
        return input
    if not dtype.is_floating_point or torch.finfo(dtype).eps > torch.finfo(input.dtype).eps:
        raise UnsupportedOperation(f"a conversion from {input.dtype} to {dtype} loses precision")
    clean, center, radius = (part.to(dtype) for part in (input.clean, input.center, input.radius))
    return shared(input, clean=clean, center=center, radius=radius)


def convert(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rule of `to` and its kin: the device may change, the precision may not fall below float32."""

    def rule(input: Any, *args: Any, **kwargs: Any) -> Any:
        args = tuple(plain(each) for each in args)
        kwargs = {name: plain(each) for name, each in kwargs.items()}
        if not isinstance(input, Interval):
            return function(input, *args, **kwargs)
        target = function(input.clean, *args, **kwargs)
        result = in_dtype(input, target.dtype)
        if target.device != input.device:
            moved = [part.to(target.device) for part in (result.clean, result.center, result.radius)]
            result = shared(result, **dict(zip(("clean", "center", "radius"), moved, strict=True)))
        return shared(result, provenance=kept_order(input) if target.device == input.device else None)

    return rule


def about(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rule of what depends on a tensor's shape, dtype or device alone, such as `zeros_like`: a constant."""
    return lambda input, *args, **kwargs: function(plain(input), *args, **kwargs)


def detach(input: Any) -> Interval:
    """The same without gradients."""
    clean, center, radius = (part.detach() for part in (input.clean, input.center, input.radius))
    return shared(input, clean=clean, center=center, radius=radius, provenance=kept_order(input))


_CONSTANTS = ("zeros_like", "ones_like", "full_like", "is_floating_point", "is_complex")
_NEW = ("new_zeros", "new_ones", "new_full", "new_tensor", "stride", "is_contiguous", "get_device", "element_size")

TABLE: dict[Callable[..., Any], Rule] = {
    **each(convert, "to", "float", "double", "type", "type_as", "cpu", "cuda"),
    **each(about, *_CONSTANTS, *_NEW),
    **dict.fromkeys(spelled("detach"), detach),
}
