"""Rules of softmax, its logarithm, and the logarithm of a sum of exponentials."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, from_ends, shared
from hf_warmup.bounds.provenance import Affine, Softmax
from hf_warmup.bounds.rules.affine import neg
from hf_warmup.bounds.rules.conversions import in_dtype
from hf_warmup.bounds.rules.elementwise import ULPS
from hf_warmup.bounds.rules.spelling import spelled


def softmax(input: Any, dim: int, _stacklevel: Any = 3, dtype: Any = None) -> Interval:
    """`F.softmax`: an entry is least where it is at its lower end and all others at their upper ends."""
    # The third argument of torch.softmax is dtype; that of F.softmax is _stacklevel.
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    input = in_dtype(input, dtype)
    lower, upper = input.lower, input.upper
    unit = 4.0 * (input.rounding or torch.finfo(input.dtype).eps)
    # least = 1 / (1 + sum of the others' exp(upper_j - lower_i)), and most with the ends exchanged.
    least = 1 / (1 + _others(upper, lower, dim, unit))
    most = 1 / (1 + _others(lower, upper, dim, -unit))
    ends = (least * (1 - unit)).clamp(min=0), (most * (1 + unit)).clamp(max=1)
    result = from_ends(input, F.softmax(input.clean, dim), *ends)
    over_classes = input.dim() == 2 and dim in (1, -1)
    return shared(result, provenance=Softmax(input)) if over_classes else result


def log_softmax(input: Any, dim: int, _stacklevel: Any = 3, dtype: Any = None) -> Interval:
    """`F.log_softmax`, which changes no difference of two logits."""
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    input = in_dtype(input, dtype)
    lower, upper = input.lower, input.upper
    unit = 4.0 * (input.rounding or torch.finfo(input.dtype).eps)
    most, least = _log_whole(upper, lower, dim, unit), _log_whole(lower, upper, dim, -unit)
    ends = -most, -least
    steps = 2 * ULPS * input.rounding
    result = from_ends(input, F.log_softmax(input.clean, dim), ends[0] * (1 + steps), ends[1] * (1 - steps))
    kept = input.provenance if input.dim() == 2 and dim in (1, -1) else None
    return shared(result, provenance=kept) if isinstance(kept, Affine) else result


def _others(ends: Tensor, own: Tensor, dim: int, unit: float) -> Tensor:
    """Sum over j != i of exp(ends_j - own_i), no less than it for unit > 0, no more for unit < 0."""
    top = ends.amax(dim, keepdim=True)
    shares = (ends - top).exp()
    lost = unit * (ends.shape[dim] + ULPS)
    # By subtraction, which loses as much as the whole sum's rounding error.
    others = (shares.sum(dim, keepdim=True) * (1 + lost) - shares).clamp(min=0)
    distance, range_ = top - own, torch.finfo(ends.dtype)
    limit = math.log(range_.max) - 1
    # The distance's rounding is a relative error of its exponential.
    factor = distance.clamp(max=limit).exp() * (1 + unit * (distance.abs().clamp(max=limit) + ULPS))
    if unit < 0:
        return (others * factor - 2 * range_.tiny).clamp(min=0)
    return torch.where(distance > limit, torch.full_like(others, math.inf), others * factor + 2 * range_.tiny)


def _log_whole(ends: Tensor, own: Tensor, dim: int, unit: float) -> Tensor:
    """log(1 + the others' sum), no less than it for unit > 0, no more for unit < 0."""
    near = torch.log1p(_others(ends, own, dim, unit))
    # Where the sum overflows, 1 is far less than an ulp of it, and the element's own term than one of the whole.
    top = ends.amax(dim, keepdim=True)
    shares = (ends - top).exp()
    whole = shares.sum(dim, keepdim=True) * (1 + unit * (ends.shape[dim] + ULPS))
    distance, limit = top - own, math.log(torch.finfo(ends.dtype).max) - 1
    others = (whole if unit > 0 else whole - shares).clamp(min=torch.finfo(ends.dtype).tiny)
    return torch.where((distance > limit) & top.isfinite(), (distance + others.log()) * (1 + unit * ULPS), near)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Interval:
    """`torch.logsumexp`, which rises in every element."""
    ends = [torch.logsumexp(end, dim, keepdim) for end in (input.lower, input.upper)]
    over = [dim] if isinstance(dim, int) else list(dim)
    terms = math.prod(input.shape[d] for d in over)
    # The largest element and the logarithm of a sum of no more than so many numbers up to 1.
    lost = [2.0 * (terms + ULPS) * input.rounding * (end.abs() + math.log(terms) + 1) for end in ends]
    clean = torch.logsumexp(input.clean, dim, keepdim)
    return from_ends(input, clean, ends[0] - lost[0], ends[1] + lost[1])


TABLE: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys((F.softmax, *spelled("softmax")), softmax),
    **dict.fromkeys((F.log_softmax, *spelled("log_softmax")), log_softmax),
    **dict.fromkeys(spelled("logsumexp"), logsumexp),
    F.softmin: lambda input, dim, _stacklevel=3, dtype=None: softmax(neg(input), dim, _stacklevel, dtype),
}
