"""Names and options, as they come from a configuration, turned into schedules by the tables of `schedules`.

Every check of what a person may ask for is here, so that the scheduler only multiplies.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from typing import Any

from hf_warmup.schedules import Schedule
from hf_warmup.schedules.tables import ENDLESS_DECAYS


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError for a name that does not exist; those that do come in the order of their likeness to it."""
    known = list(known)
    if name not in known:
        nearest = sorted(known, key=lambda one: -difflib.SequenceMatcher(None, str(name), one).ratio())
        raise ValueError(f"unknown {what} {name!r}; choose one of {', '.join(nearest)}.")


def check_schedule(what: str, given: str | Schedule, known: Iterable[str]) -> None:
    """Raise ValueError for a name that does not exist, and for a callable that is no `Schedule`.

    Args:
        what: the argument's name.
        given: a name, or a function from a step to a multiplier; it is tried at step 0.
        known: the names that exist.
    """
    if not callable(given):
        check_known(what, given, known)
        return
    try:
        first = given(0)
    except TypeError as error:
        raise ValueError(
            f"{what}={_name(given)} cannot be called with a step alone ({error}). Bind its other arguments: "
            f"functools.partial(function, name=value)."
        ) from None
    if not isinstance(first, Real) or isinstance(first, bool) or not math.isfinite(first) or first < 0:
        raise ValueError(f"{what}={_name(given)} must return a multiplier, a number >= 0; at step 0 it is {first!r}.")


def _name(function: Schedule) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def check_length(decay: str | Schedule, num_training_steps: int | None) -> None:
    """Raise ValueError for a decay over a run of unknown length, and for a run of none."""
    if num_training_steps is not None and not 0 < num_training_steps < math.inf:
        raise ValueError(f"num_training_steps must be positive and finite, got {num_training_steps!r}.")
    if isinstance(decay, str) and num_training_steps is None and decay not in ENDLESS_DECAYS:
        raise ValueError(f"decay {decay!r} needs num_training_steps, the length of the run in scheduler steps.")


def check_numbers(**options: Any) -> None:
    """Raise ValueError for an option that is neither None nor a number, such as YAML's 1e-1, which is a text."""
    for name, value in options.items():
        if value is None or (isinstance(value, Real) and not isinstance(value, bool)):
            continue
        raise ValueError(f"{name} must be a number, got {value!r}{_as_yaml_number(value)}.")


def _as_yaml_number(value: Any) -> str:
    try:
        number = repr(float(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""
    if not number:
        return ""
    mantissa, e, exponent = number.partition("e")
    number = mantissa + ".0" * (bool(e) and "." not in mantissa) + e + exponent
    return f", which is a text; YAML reads a number only with a point in it: write {number}"


def bind(table: Mapping[str, Callable[..., float]], name: str | Schedule, **options: Any) -> Schedule:
    """The schedule `name` with those of `options` that are not None; a callable is what it is, without options.

    Raises:
        ValueError: for an option that this schedule does not take, naming those that do.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if not isinstance(name, str):
        if given:
            raise ValueError(
                f"{_name(name)} is a function of the step alone, so {', '.join(given)} would change nothing. Bind "
                f"what it takes: functools.partial(function, name=value)."
            )
        return name
    for key in given:
        if key not in inspect.signature(table[name]).parameters:
            takers = [other for other in table if key in inspect.signature(table[other]).parameters]
            raise ValueError(f"{name!r} takes no {key}; it is an option of {', '.join(takers)}.")
    return partial(table[name], **given)


def group_beta2(group: Mapping[str, Any], index: int, given: float | None) -> float:
    """`beta2` if given, else the param group's own `betas[1]` or `beta2`; never a silent default.

    Raises:
        ValueError: if there is neither, or the value is outside (0, 1).
    """
    if given is not None:
        return _checked_beta2(given)
    if not holds_beta2(group):
        raise ValueError(
            f"an untuned warmup takes its length from Adam's beta2, and param group {index} has no betas. Pass beta2= "
            f'(in TrainingArguments: lr_scheduler_kwargs={{"beta2": 0.999}}), or use linear_warmup with warmup_steps.'
        )
    return _checked_beta2(float(group["betas"][1] if "betas" in group else group["beta2"]))


def holds_beta2(group: Mapping[str, Any]) -> bool:
    """Whether a param group states beta2, in `betas` or, as StableAdamW's, by itself."""
    betas = group.get("betas", (None, group.get("beta2")))
    return isinstance(betas, tuple | list) and len(betas) > 1 and betas[1] is not None


def _checked_beta2(beta2: float) -> float:
    if not 0.0 < beta2 < 1.0:
        raise ValueError(f"beta2 must lie strictly between 0 and 1, got {beta2!r}; Adam's usual value is 0.999.")
    return beta2


def untuned_period(beta2: float) -> float:
    """Updates after which an untuned warmup counts as done: `2 / (1 - beta2)`, the length of the linear one.

    The exponential one and RAdam's only approach 1; at beta2 = .999 they have then reached .86 and .83.
    """
    return 2.0 / (1.0 - beta2)
