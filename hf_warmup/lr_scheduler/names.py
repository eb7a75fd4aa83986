"""Names and options, as they come from a configuration, turned into schedules by the tables of `schedules`.

Every check of what a person may ask for is here, so that the scheduler only multiplies.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hf_warmup.schedules import Schedule
from hf_warmup.schedules.tables import DECAYS, ENDLESS_DECAYS, TUNED_WARMUPS, UNTUNED_WARMUPS, WARMUPS


logger = logging.getLogger(__name__)

ON_SHORT_RUN = ("warn", "cap", "raise")

# Updates below which a capped warmup is not shortened: beta2 must stay above 0, and above 2/3 for RAdam to rectify.
_SHORTEST = {"untuned_linear_warmup": 2.5, "untuned_exponential_warmup": 2.5, "radam_warmup": 8.0}


def check_choices(
    warmup: str,
    decay: str,
    num_warmup_steps: float | None,
    num_training_steps: int | None,
    on_short_run: str,
    max_warmup_ratio: float,
) -> None:
    """Raise ValueError for names that do not exist, and for lengths that are missing or contradict them."""
    for what, name, table in (("warmup", warmup, WARMUPS), ("decay", decay, DECAYS)):
        if name not in table:
            raise ValueError(f"unknown {what} {name!r}; choose one of {', '.join(table)}.")
    if warmup in TUNED_WARMUPS and not (num_warmup_steps and num_warmup_steps > 0):
        raise ValueError(
            f"{warmup} needs its length: num_warmup_steps must be positive, got {num_warmup_steps!r}. In "
            f"TrainingArguments set warmup_steps; untuned_{warmup} needs none."
        )
    if warmup in UNTUNED_WARMUPS and num_warmup_steps:
        raise ValueError(
            f"{warmup} takes its length from beta2, but num_warmup_steps={num_warmup_steps} was given as well. Write "
            f"warmup_steps=0, or use linear_warmup to keep your own length."
        )
    if num_training_steps is None and decay not in ENDLESS_DECAYS:
        raise ValueError(f"decay {decay!r} needs num_training_steps, the length of the run in scheduler steps.")
    if on_short_run not in ON_SHORT_RUN:
        raise ValueError(f"on_short_run must be one of {', '.join(ON_SHORT_RUN)}, got {on_short_run!r}.")
    if not 0.0 < max_warmup_ratio <= 1.0:
        raise ValueError(f"max_warmup_ratio must lie in (0, 1], got {max_warmup_ratio!r}.")


def bind(table: Mapping[str, Callable[..., float]], name: str, **options: Any) -> Schedule:
    """The schedule `name` with those of `options` that are not None.

    Raises:
        ValueError: for an option that this schedule does not take, naming those that do.
    """
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in inspect.signature(table[name]).parameters:
            takers = [other for other in table if key in inspect.signature(table[other]).parameters]
            raise ValueError(f"{name!r} takes no {key}; it is an option of {', '.join(takers)}.")
    return partial(table[name], **given)


def group_beta2(group: Mapping[str, Any], index: int, given: float | None) -> float:
    """`beta2` if given, else the param group's own `betas[1]`; never a silent default.

    Raises:
        ValueError: if there is neither, or the value is outside (0, 1).
    """
    if given is not None:
        return _checked_beta2(given)
    betas = group.get("betas")
    if not isinstance(betas, tuple | list) or len(betas) < 2:
        raise ValueError(
            f"an untuned warmup takes its length from Adam's beta2, and param group {index} has no betas. Pass beta2= "
            f'(in TrainingArguments: lr_scheduler_kwargs={{"beta2": 0.999}}), or use linear_warmup with warmup_steps.'
        )
    return _checked_beta2(float(betas[1]))


def _checked_beta2(beta2: float) -> float:
    if not 0.0 < beta2 < 1.0:
        raise ValueError(f"beta2 must lie strictly between 0 and 1, got {beta2!r}; Adam's usual value is 0.999.")
    return beta2


def untuned_period(beta2: float) -> float:
    """Updates after which an untuned warmup counts as done: `2 / (1 - beta2)`, the length of the linear one.

    The exponential one and RAdam's only approach 1; at beta2 = .999 they have then reached .86 and .83.
    """
    return 2.0 / (1.0 - beta2)


def fit_to_run(
    warmup: str, beta2: float, num_updates: int | None, *, on_short_run: str, max_warmup_ratio: float
) -> float:
    """The beta2 for the warmup to use, after saying what is to be said about a run shorter than the warmup.

    Args:
        warmup: key of `UNTUNED_WARMUPS`.
        beta2: the optimizer's.
        num_updates: length of the run, None if unknown.
        on_short_run: "warn" keeps the warmup as it is, "cap" shortens it to `max_warmup_ratio` of the run, "raise"
            refuses.
        max_warmup_ratio: share of the run, in (0, 1].

    Raises:
        ValueError: under "raise", if the run is shorter than the warmup.
    """
    period = untuned_period(beta2)
    if num_updates is None or num_updates >= period:
        return beta2
    fitting = 1.0 - 2.0 / max(_SHORTEST[warmup], max_warmup_ratio * num_updates)
    reached = UNTUNED_WARMUPS[warmup](max(0, num_updates - 1), beta2=beta2)
    message = (
        f"{warmup} with beta2={beta2:g} takes {period:.0f} updates, but the run has {num_updates}: the warmup only "
        f"reaches {reached:.3g} of the learning rate."
    )
    if on_short_run == "cap":
        logger.warning("%s It is shortened to %.0f updates.", message, untuned_period(fitting))
        return fitting
    advice = (
        f"A beta2 of {fitting:.4g} would fit (a warmup of {untuned_period(fitting):.0f} updates); on_short_run='cap' "
        f"shortens the warmup alone."
    )
    if on_short_run == "raise":
        raise ValueError(f"{message} {advice}")
    logger.warning("%s %s", message, advice)
    return beta2
