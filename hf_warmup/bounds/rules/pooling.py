"""Rules of pooling by averages and by maxima."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation
from hf_warmup.bounds.rules.reductions import average, monotone_in_each


def average_pool(function: Callable[..., Tensor], dimensions: int) -> Rule:
    """Rule of `avg_pool1d` and its kin."""

    def pooled(input: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> int:
        sides = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,)
        return math.prod(sides) if len(sides) == dimensions else int(sides[0]) ** dimensions

    def rule(input: Any, *args: Any, **kwargs: Any) -> Interval:
        divisor = args[5] if len(args) > 5 else kwargs.get("divisor_override")
        if divisor is not None and divisor < 0:
            raise UnsupportedOperation(f"{function.__name__} with divisor_override={divisor} has no rule")
        return average(function, pooled)(input, *args, **kwargs)

    return rule


def adaptive_pool(function: Callable[..., Tensor], dimensions: int) -> Rule:
    """Rule of `adaptive_avg_pool1d` and its kin; no window holds more than all places of an image's channel."""
    return average(function, lambda input, *args, **kwargs: math.prod(input.shape[-dimensions:]))


def max_pool(function: Callable[..., Tensor]) -> Rule:
    """Rule of pooling by maximum, which is monotone in each input."""
    rule = monotone_in_each(function)

    def without_places(input: Any, *args: Any, return_indices: bool = False, **kwargs: Any) -> Interval:
        if return_indices:
            raise UnsupportedOperation("max_pool with return_indices has no rule")
        result: Interval = rule(input, *args, **kwargs)
        return result

    return without_places


TABLE: dict[Callable[..., Any], Rule] = {
    F.avg_pool1d: average_pool(F.avg_pool1d, 1),
    F.avg_pool2d: average_pool(F.avg_pool2d, 2),
    F.avg_pool3d: average_pool(F.avg_pool3d, 3),
    F.adaptive_avg_pool1d: adaptive_pool(F.adaptive_avg_pool1d, 1),
    F.adaptive_avg_pool2d: adaptive_pool(F.adaptive_avg_pool2d, 2),
    F.adaptive_avg_pool3d: adaptive_pool(F.adaptive_avg_pool3d, 3),
    **{
        function: max_pool(function)
        for function in (
            F.max_pool1d,
            F.max_pool2d,
            F.max_pool3d,
            F.adaptive_max_pool1d,
            F.adaptive_max_pool2d,
            F.adaptive_max_pool3d,
        )
    },
}
