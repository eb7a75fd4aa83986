"""Schedules of every setting stay in the unit interval, never turn back, pickle, and name bad input."""

import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_warmup import schedules
from hf_warmup.schedules import (
    after,
    constant,
    cosine_decay,
    exponential_warmup,
    inverse_sqrt_decay,
    linear_decay,
    linear_warmup,
    multistep_decay,
    polynomial_decay,
    product,
    radam_warmup,
    smoothed_ramp,
    untuned_exponential_warmup,
    untuned_linear_warmup,
    wsd_decay,
)


# One legal setting of every schedule: bound keywords only, so that it is a function of the step.
LEGAL: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine_decay": {"num_training_steps": 50, "min_lr_ratio": 0.1},
    "exponential_warmup": {"period": 12.5},
    "inverse_sqrt_decay": {"timescale": 12.5},
    "linear_decay": {"num_training_steps": 50, "min_lr_ratio": 0.1},
    "linear_warmup": {"period": 12.5},
    "multistep_decay": {"milestones": (10, 30), "factor": 0.1},
    "polynomial_decay": {"num_training_steps": 50, "power": 3.0},
    "radam_warmup": {"beta2": 0.98, "threshold": 4.0},
    "smoothed_ramp": {"start": 5, "length": 40},
    "untuned_exponential_warmup": {"beta2": 0.98},
    "untuned_linear_warmup": {"beta2": 0.98},
    "wsd_decay": {"num_training_steps": 50, "decay_ratio": 0.3},
}
JOINTS = {"after", "product", "effective_warmup_period", "Schedule"}
RISING = {name for name in LEGAL if name.endswith(("warmup", "ramp"))}


def test_every_schedule_has_a_legal_setting_here() -> None:
    assert set(LEGAL) | JOINTS == set(schedules.__all__)
    assert len(RISING) == 6


betas = st.floats(0.7, 0.99999)
steps = st.integers(0, 100_000)


@given(beta2=betas, step=steps, threshold=st.sampled_from([4, 5]), start=st.sampled_from(["zero", "first_rectified"]))
def test_warmups_lie_in_the_unit_interval_and_never_fall(
    beta2: float, step: int, threshold: float, start: str
) -> None:
    for warmup in (
        partial(untuned_linear_warmup, beta2=beta2),
        partial(untuned_exponential_warmup, beta2=beta2),
        partial(radam_warmup, beta2=beta2, threshold=threshold, start=start),
        partial(linear_warmup, period=1 / (1 - beta2)),
        partial(exponential_warmup, period=1 / (1 - beta2)),
    ):
        now, then = warmup(step), warmup(step + 1)
        assert 0.0 <= now <= 1.0
        # Up to rounding where the curve is flat.
        assert then >= now - 1e-12


@given(
    step=st.integers(0, 400),
    length=st.integers(1, 300),
    floor=st.floats(0, 1),
    power=st.floats(0.1, 5),
    share=st.floats(0.01, 1),
)
def test_decays_lie_between_floor_and_one_and_never_rise(
    step: int, length: int, floor: float, power: float, share: float
) -> None:
    for decay in (
        partial(linear_decay, num_training_steps=length, min_lr_ratio=floor),
        partial(cosine_decay, num_training_steps=length, min_lr_ratio=floor),
        partial(polynomial_decay, num_training_steps=length, min_lr_ratio=floor, power=power),
        partial(wsd_decay, num_training_steps=length, min_lr_ratio=floor, decay_ratio=share),
    ):
        assert floor - 1e-12 <= decay(step) <= 1.0 + 1e-12
        assert decay(step + 1) <= decay(step) + 1e-12
        assert decay(0) == pytest.approx(1.0, rel=1e-12)
        assert decay(length) == pytest.approx(floor, rel=1e-12, abs=1e-12)
        assert decay(length + step) == pytest.approx(floor, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", sorted(LEGAL))
def test_bound_schedules_pickle_and_stay_in_the_unit_interval(name: str) -> None:
    bound = partial(getattr(schedules, name), **LEGAL[name])
    values = [bound(step) for step in range(100)]
    assert [pickle.loads(pickle.dumps(bound))(step) for step in range(100)] == values
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values == sorted(values, reverse=name not in RISING)
    # A case that never moves would prove nothing.
    assert (name == "constant") == (len(set(values)) == 1)


def test_joined_schedules_pickle() -> None:
    warmup = partial(untuned_linear_warmup, beta2=0.9)
    joined = partial(
        after,
        first=partial(product, factors=(warmup, constant)),
        num_steps=20,
        then=partial(linear_decay, num_training_steps=10),
    )
    values = [joined(step) for step in range(35)]
    assert [pickle.loads(pickle.dumps(joined))(step) for step in range(35)] == values
    expected = [min(1.0, (s + 1) / 20) if s < 20 else max(0.0, 1 - (s - 20) / 10) for s in range(35)]
    assert values == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (linear_warmup, {"period": 0}, "period must be positive, got 0"),
        (exponential_warmup, {"period": -1}, "period must be positive, got -1"),
        (linear_warmup, {"period": math.nan}, "period must be positive"),
        *[
            (warmup, {"beta2": bad}, "beta2 must lie strictly between 0 and 1")
            for warmup in (untuned_linear_warmup, untuned_exponential_warmup, radam_warmup)
            for bad in (0.0, 1.0, -0.1, 1.1, math.nan)
        ],
        (radam_warmup, {"beta2": 0.5}, "never rectify"),
        (radam_warmup, {"beta2": 0.65, "threshold": 5}, r"above 0\.6667"),
        (radam_warmup, {"beta2": 0.9, "threshold": 3}, "threshold must be 4"),
        (radam_warmup, {"beta2": 0.9, "start": "now"}, "start must be 'zero' or 'first_rectified', got 'now'"),
        (linear_decay, {"num_training_steps": 0}, "num_training_steps must be positive"),
        (linear_decay, {"num_training_steps": 5, "min_lr_ratio": 1.5}, r"min_lr_ratio must lie in \[0, 1\], got 1.5"),
        (cosine_decay, {"num_training_steps": 5, "min_lr_ratio": -0.1}, "min_lr_ratio must lie"),
        (polynomial_decay, {"num_training_steps": 5, "power": 0}, "power must be positive"),
        (wsd_decay, {"num_training_steps": 5, "decay_ratio": 0}, "decay_ratio must be positive"),
        (wsd_decay, {"num_training_steps": 5, "decay_ratio": 1.1}, "decay_ratio must lie"),
        (inverse_sqrt_decay, {"timescale": 0}, "timescale must be positive"),
        (multistep_decay, {"milestones": (5, 2), "factor": 0.1}, "milestones must increase"),
        (multistep_decay, {"milestones": (2,), "factor": 2.0}, "factor must lie"),
        (smoothed_ramp, {"start": 0, "length": 0}, "length must be at least 1"),
    ],
)
def test_bad_input_is_named(function: Callable[..., float], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(3, **options)
