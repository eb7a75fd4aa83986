"""Records of runs that this package does not train itself, in the form of its own: steps, evaluations, a result.

What such a run does not tell is None. Deliberately absent: where the numbers come from.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record


# What a step record may hold beside its number; see `training.records.StepRecord`.
_STEP = ("loss", "lr", "multiplier", "grad_norm", "update_mean", "update_ratio_mean", "update_ratio_median")
SCORES = ("validation", "test")


def step_record(step: int, **known: Any) -> Record:
    """One update's record; what is not known of it is None."""
    return {"kind": "step", "step": step, **{key: _number(known.get(key)) for key in _STEP}, "skipped": False}


def evaluation_record(step: int, metric: str, score: Any, loss: Any = None) -> Record:
    """What an evaluation on validation data gave after update number `step`."""
    return {"kind": "evaluation", "step": step, metric: _number(score), "loss": _number(loss)}


def result_record(scores: Mapping[str, float], *, tuning: bool) -> Record:
    """The last record of a run; a tuning run's test score is not kept."""
    return {"kind": "result", **{key: value for key, value in scores.items() if not (tuning and key == "test")}}


def both_scores(validation: float, test: float | None, *, several_rates: bool) -> dict[str, float]:
    """Validation and test score; a run of `one_score` is judged by that.

    Raises:
        ConfigError: if a learning rate would be chosen by the score that judges the run.
    """
    if test is None and several_rates:
        raise ConfigError(
            "a run gives one score, and the learning rate would be chosen by the score that judges it. Give a test "
            "score as well, or `tuning_seeds`, on which the rate is chosen, or a single learning rate."
        )
    if test is None:
        return {"validation": validation, "test": validation, "one_score": True}
    return {"validation": validation, "test": test}


def with_divergence(records: Iterable[Record]) -> Iterator[Record]:
    """A run's records, and a record of its divergence before the result where its last loss is not finite."""
    last: Record | None = None
    for record in records:
        if record["kind"] == "step":
            last = record
        if record["kind"] == "result" and last is not None and _is_lost(last):
            yield {"kind": "diverged", "step": last["step"]}
        yield record


def _is_lost(step: Record) -> bool:
    known = [step[key] for key in ("loss", "grad_norm") if step[key] is not None]
    return any(not math.isfinite(value) for value in known)


def as_score(value: Any, what: str) -> float:
    """A score as a float; NaN is one.

    Raises:
        ConfigError: if it is no number.
    """
    number = _number(value)
    if number is None:
        raise ConfigError(f"{what} must be a number, got {value!r:.80}.")
    return number


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str | bytes | bool | Mapping):
        return None
    if isinstance(value, Real):
        return float(value)
    try:  # a tensor or an array of one element
        return float(value.item())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
