"""Runs that are shorter than an untuned warmup: what they come to, and what can be done."""

import math

from hf_warmup.lr_scheduler.names import untuned_period
from hf_warmup.lr_scheduler.notices import say_once
from hf_warmup.lr_scheduler.process_group import num_processes
from hf_warmup.schedules import Schedule, constant
from hf_warmup.schedules.tables import UNTUNED_WARMUPS


ON_SHORT_RUN = ("warn", "cap", "raise")

# Updates below which a capped warmup is not shortened: beta2 must stay above 0, and above 2/3 for RAdam to rectify.
_SHORTEST = {"untuned_linear_warmup": 2.5, "untuned_exponential_warmup": 2.5, "radam_warmup": 8.0}
# Below this beta2 Adam's second moment is hardly an average any more, so it is no advice.
_SMALLEST_ADVISED = 0.9


def is_too_short(num_updates: float, beta2: float) -> bool:
    """Whether a run ends before an untuned warmup does; 2 / (1 - beta2) is taken with its rounding."""
    period = untuned_period(beta2)
    return num_updates < period and not math.isclose(num_updates, period, rel_tol=1e-9)


def fit_to_run(
    warmup: str,
    beta2: float,
    num_updates: int | None,
    *,
    on_short_run: str,
    max_warmup_ratio: float,
    decay: Schedule = constant,
) -> float:
    """The beta2 for the warmup to use, after saying what is to be said about a run shorter than the warmup.

    Args:
        warmup: key of `UNTUNED_WARMUPS`.
        beta2: the optimizer's.
        num_updates: length of the run, None if unknown.
        on_short_run: "warn" keeps the warmup as it is, "cap" shortens it to `max_warmup_ratio` of the run, "raise"
            refuses.
        max_warmup_ratio: share of the run, in (0, 1].
        decay: what the warmup is multiplied by.

    Raises:
        ValueError: under "raise", if the run is shorter than the warmup.
    """
    if num_updates is None or not is_too_short(num_updates, beta2):
        return beta2
    fitting = 1.0 - 2.0 / max(_SHORTEST[warmup], max_warmup_ratio * num_updates)
    if on_short_run == "cap":
        lengths = _lengths(warmup, beta2, num_updates)
        say_once(f'{lengths}: it is shortened to {untuned_period(fitting):.0f} updates, as on_short_run="cap" asks.')
        return fitting
    message = f"{shortfall(warmup, beta2, num_updates, decay)} {short_run_advice(fitting)}"
    if on_short_run == "raise":
        raise ValueError(message)
    say_once(message)
    return beta2


def shortfall(warmup: str, beta2: float, num_updates: int, decay: Schedule = constant) -> str:
    """One sentence: both lengths, and the largest multiplier of warmup and decay together."""
    peak = max(UNTUNED_WARMUPS[warmup](k, beta2=beta2) * decay(k) for k in range(math.ceil(num_updates)))
    lengths = _lengths(warmup, beta2, num_updates)
    return f"{lengths}: with its decay the learning rate peaks at {100 * peak:.3g} % of its value."


def _lengths(warmup: str, beta2: float, num_updates: int) -> str:
    length = f"{num_updates} updates"
    if num_processes() > 1:
        length += f" ({num_updates / num_processes():.0f} if Accelerate prepares the scheduler)"
    return f"{warmup} with beta2={beta2:g} takes {untuned_period(beta2):.0f} updates, but the run has {length}"


def short_run_advice(fitting: float) -> str:
    """What to do about a run of which the fitting share is a warmup of this beta2."""
    cap = 'lr_scheduler_kwargs={"on_short_run": "cap"}'
    if fitting < _SMALLEST_ADVISED:
        return f"The run is too short for an untuned warmup: {cap} makes one of {untuned_period(fitting):.0f} updates."
    return (
        f"A beta2 of {fitting:.4g} would fit (a warmup of {untuned_period(fitting):.0f} updates); {cap} shortens the "
        f"warmup alone."
    )
