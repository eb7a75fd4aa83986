"""Schedules: pure functions `step -> multiplier`, and nothing else.

Whatever changes over training is one of these: the warmup and the decay of the learning rate, the ramp of a
perturbation radius, the weight of a regularizer. `step` is the number of optimizer updates already made, so the value
belongs to the *next* update, the papers' `t = step + 1`. There is no object to advance: bind the keywords with
`functools.partial`, pickle the result, and resume by passing the step. Periods and lengths are in optimizer updates;
a keyword outside its stated range is a `ValueError`. Deliberately absent: torch, and state.
"""

from hf_warmup.schedules.combine import Schedule, after, effective_warmup_period, product
from hf_warmup.schedules.decays import (
    constant,
    cosine_decay,
    inverse_sqrt_decay,
    linear_decay,
    multistep_decay,
    polynomial_decay,
    wsd_decay,
)
from hf_warmup.schedules.ramps import smoothed_ramp
from hf_warmup.schedules.warmups import (
    exponential_warmup,
    linear_warmup,
    radam_warmup,
    untuned_exponential_warmup,
    untuned_linear_warmup,
)


__all__ = [
    "Schedule",
    "after",
    "constant",
    "cosine_decay",
    "effective_warmup_period",
    "exponential_warmup",
    "inverse_sqrt_decay",
    "linear_decay",
    "linear_warmup",
    "multistep_decay",
    "polynomial_decay",
    "product",
    "radam_warmup",
    "smoothed_ramp",
    "untuned_exponential_warmup",
    "untuned_linear_warmup",
    "wsd_decay",
]
