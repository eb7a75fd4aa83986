"""Rules of `interpolate`: by repetition, by means over areas, and by weights along one dimension after the other."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, made
from hf_warmup.bounds.rules.reductions import average
from hf_warmup.bounds.rules.shape import same_shape_change


def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any) -> Any:
    """`F.interpolate` in every mode."""
    arguments = (size, scale_factor, mode)
    if mode in ("nearest", "nearest-exact"):
        return same_shape_change(F.interpolate)(input, *arguments, **options)
    if mode == "area":
        places = math.prod(input.shape[2:])
        return average(F.interpolate, lambda *args, **kwargs: places)(input, *arguments, **options)
    if mode not in ("linear", "bilinear", "bicubic", "trilinear"):
        raise UnsupportedOperation(f"interpolate with mode={mode!r} has no rule")
    clean = F.interpolate(input.clean, *arguments, **options)
    center, radius = input.center, input.radius
    # Rounded places move weights between neighbours, so any element of a channel may have been read.
    largest = (center.abs() + radius).flatten(2).amax(2)
    terms, magnitude = 32, largest.view(*largest.shape, *[1] * (input.dim() - 2))
    for axis in range(2, input.dim()):
        weights = _weights(input, axis, arguments, options)
        center, radius = _along(center, weights, axis), _along(radius, weights.abs(), axis)
        terms += 4 * sum(weights.shape)
        magnitude = magnitude * weights.abs().sum(1).amax()
    return made(input, clean, center, radius, magnitude=4 * magnitude.expand_as(center), terms=terms)


def _along(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)


def _weights(input: Interval, axis: int, arguments: tuple[Any, Any, str], options: dict[str, Any]) -> Tensor:
    """What places along one dimension get of others, (after, before): the same operation on unit vectors.

    They lie along another dimension, which is left as it is; in one dimension alone they are channels.
    """
    size, scale_factor, mode = arguments
    own, dimensions, length = axis - 2, input.dim() - 2, input.shape[axis]
    units = (own + 1) % dimensions

    def alone(value: Any, for_units: Any, for_others: Any) -> Any:
        if value is None:
            return None
        found = value[own] if isinstance(value, tuple | list | torch.Size) else value
        return [found if d == own else for_units if d == units else for_others for d in range(dimensions)]

    unit = torch.eye(length, dtype=input.dtype, device=input.device)
    if dimensions > 1:
        unit = unit.view([1, 1, *[length if d in (own, units) else 1 for d in range(dimensions)]])
    else:
        unit = unit.view(1, length, length)
    found = F.interpolate(unit, alone(size, length, 1), alone(scale_factor, 1.0, 1.0), mode, **options)
    if dimensions == 1:
        return found[0].T
    return found.movedim((2 + own, 2 + units), (0, 1)).reshape(-1, length)


TABLE: dict[Callable[..., Any], Rule] = {F.interpolate: interpolate}
