"""The names by which a configuration asks for a warmup or a decay, each with its function: the one place of both."""

from collections.abc import Callable, Mapping

from hf_warmup.schedules.decays import (
    constant,
    cosine_decay,
    inverse_sqrt_decay,
    linear_decay,
    polynomial_decay,
    wsd_decay,
)
from hf_warmup.schedules.warmups import (
    exponential_warmup,
    linear_warmup,
    radam_warmup,
    untuned_exponential_warmup,
    untuned_linear_warmup,
)


TUNED_WARMUPS: Mapping[str, Callable[..., float]] = {
    "linear_warmup": linear_warmup,
    "exponential_warmup": exponential_warmup,
}
UNTUNED_WARMUPS: Mapping[str, Callable[..., float]] = {
    "untuned_linear_warmup": untuned_linear_warmup,
    "untuned_exponential_warmup": untuned_exponential_warmup,
    "radam_warmup": radam_warmup,
}
WARMUPS = {**TUNED_WARMUPS, **UNTUNED_WARMUPS}
# These follow the loss instead of a clock, and are no functions of the step; h0_h1_warmup has rho = 1.
LOSS_ADAPTIVE_WARMUPS = ("loss_adaptive_warmup", "h0_h1_warmup")
DECAYS: Mapping[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear_decay,
    "cosine": cosine_decay,
    "inverse_sqrt": inverse_sqrt_decay,
    "polynomial": polynomial_decay,
    "wsd": wsd_decay,
}
# Decays that do not ask how long the run is.
ENDLESS_DECAYS = ("constant", "inverse_sqrt")
