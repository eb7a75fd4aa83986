"""Schedules against the closed forms in 50 digits, and the specification's tables."""

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_warmup.schedules import (
    constant,
    cosine_decay,
    effective_warmup_period,
    exponential_warmup,
    inverse_sqrt_decay,
    linear_decay,
    linear_warmup,
    multistep_decay,
    polynomial_decay,
    radam_warmup,
    smoothed_ramp,
    untuned_exponential_warmup,
    untuned_linear_warmup,
    wsd_decay,
)


# beta2, t, linear, exponential, rho_t, r_t (rho > 4), r_t (rho > 5): the specification's table, section 4, computed
# there independently to 10 decimals.
SPEC = [
    (0.999, 1, 0.0005, 0.0009995002, 1.0, 0.0, 0.0),
    (0.999, 5, 0.0025, 0.0049875208, 4.99599800, 0.0173115032, 0.0),
    (0.999, 6, 0.0030, 0.0059820359, 5.99416375, 0.0258211128, 0.0258211128),
    (0.999, 10, 0.0050, 0.0099501663, 9.98349177, 0.0489980134, 0.0489980134),
    (0.999, 100, 0.05, 0.0951625820, 98.33294432, 0.2153354365, 0.2153354365),
    (0.999, 1000, 0.5, 0.6321205588, 835.96737561, 0.6453256523, 0.6453256523),
    (0.999, 2000, 1.0, 0.8646647168, 1373.65349799, 0.8283900610, 0.8283900610),
    (0.98, 1, 0.01, 0.0198013267, 1.0, 0.0, 0.0),
    (0.98, 5, 0.05, 0.0951625820, 4.91920346, 0.0765527052, 0.0),
    (0.98, 6, 0.06, 0.1130795633, 5.88218053, 0.1155232116, 0.1155232116),
    (0.98, 10, 0.10, 0.1812692469, 9.66688413, 0.2197395786, 0.2197395786),
    (0.98, 100, 1.0, 0.8646647168, 68.42067191, 0.8196727884, 0.8196727884),
    (0.98, 1000, 1.0, 0.9999999979, 98.99999663, 0.9999999819, 0.9999999819),
]
# beta2, linear, exponential, r_t (rho > 5), r_t (rho > 4): effective periods, same section, 6 decimals.
SPEC_PERIODS = [
    (0.9, 9.5, 9.508332, 14.049596, 13.893486),
    (0.95, 19.5, 19.504166, 24.389565, 24.271425),
    (0.98, 49.5, 49.501667, 55.376833, 55.300280),
    (0.99, 99.5, 99.500833, 106.917318, 106.862847),
    (0.999, 999.5, 999.500083, 1033.341990, 1033.324679),
]
BETAS = [0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 0.99999]
UPDATES = [1, 2, 3, 4, 5, 6, 7, 10, 31, 32, 33, 34, 50, 100, 999, 1000, 1999, 2000, 2001, 10_000]
TO_DECIMALS = {"rel": 1e-9, "abs": 5.1e-11}
# pytest would allow 1e-12 of absolute error besides: a billionth of a first multiplier.
TWELVE_DIGITS = {"rel": 1e-12, "abs": 0.0}


def exact_rho(t: int, beta2: float) -> Decimal:
    """rho_t of the RAdam paper, algorithm 2, for the very number that the float beta2 stands for."""
    b = Decimal(beta2)
    return 2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t)


def exact_rectification(t: int, beta2: float, threshold: int) -> Decimal:
    rho, rho_inf = exact_rho(t, beta2), 2 / (1 - Decimal(beta2)) - 1
    if rho <= threshold:
        return Decimal(0)
    return ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)).sqrt()


@pytest.fixture(autouse=True)
def _fifty_digits() -> Any:
    with decimal.localcontext() as context:
        context.prec = 50
        yield


@pytest.mark.parametrize(("beta2", "t", "linear", "exponential", "rho", "above_4", "above_5"), SPEC)
def test_table_of_the_specification(
    beta2: float, t: int, linear: float, exponential: float, rho: float, above_4: float, above_5: float
) -> None:
    assert untuned_linear_warmup(t - 1, beta2=beta2) == pytest.approx(linear, **TO_DECIMALS)
    assert untuned_exponential_warmup(t - 1, beta2=beta2) == pytest.approx(exponential, **TO_DECIMALS)
    assert radam_warmup(t - 1, beta2=beta2, threshold=4) == pytest.approx(above_4, **TO_DECIMALS)
    assert radam_warmup(t - 1, beta2=beta2, threshold=5) == pytest.approx(above_5, **TO_DECIMALS)
    # The reference of the next test is right as well.
    assert float(exact_rho(t, beta2)) == pytest.approx(rho, abs=5.1e-9)


@pytest.mark.parametrize("beta2", BETAS)
def test_untuned_warmups_equal_the_closed_form_to_twelve_digits(beta2: float) -> None:
    rate = 1 - Decimal(beta2)
    for t in UPDATES:
        linear, exponential = min(Decimal(1), t * rate / 2), 1 - (-rate * t).exp()
        assert untuned_linear_warmup(t - 1, beta2=beta2) == pytest.approx(float(linear), **TWELVE_DIGITS)
        assert untuned_exponential_warmup(t - 1, beta2=beta2) == pytest.approx(float(exponential), **TWELVE_DIGITS)


@pytest.mark.parametrize("threshold", [4, 5])
@pytest.mark.parametrize("beta2", BETAS)
def test_rectification_equals_the_closed_form_to_twelve_digits(beta2: float, threshold: int) -> None:
    for t in UPDATES:
        expected = float(exact_rectification(t, beta2, threshold))
        assert radam_warmup(t - 1, beta2=beta2, threshold=threshold) == pytest.approx(expected, **TWELVE_DIGITS)


@pytest.mark.parametrize("period", [1, 2, 7, 20, 33.3, 2000, 0.3])
def test_tuned_warmups_equal_the_closed_form_to_twelve_digits(period: float) -> None:
    for t in UPDATES:
        share = Decimal(t) / Decimal(period)
        assert linear_warmup(t - 1, period=period) == pytest.approx(float(min(Decimal(1), share)), **TWELVE_DIGITS)
        assert exponential_warmup(t - 1, period=period) == pytest.approx(float(1 - (-share).exp()), **TWELVE_DIGITS)


@pytest.mark.parametrize(("threshold", "first"), [(4, 5), (5, 6)])
@pytest.mark.parametrize("beta2", [0.9, 0.95, 0.98, 0.99, 0.999])
def test_first_rectified_update(beta2: float, threshold: int, first: int) -> None:
    waiting = partial(radam_warmup, beta2=beta2, threshold=threshold)
    at_once = partial(waiting, start="first_rectified")
    assert [waiting(t - 1) > 0 for t in range(1, 10)] == [t >= first for t in range(1, 10)]
    # At once, the first updates all have the first rectified value; from there on nothing differs.
    assert [at_once(t - 1) for t in range(1, 60)] == [waiting(max(t, first) - 1) for t in range(1, 60)]


@given(period=st.integers(3, 3000), step=st.integers(0, 5000))
def test_untuned_warmups_are_tuned_ones_with_the_papers_periods(period: int, step: int) -> None:
    linear, exponential = linear_warmup(step, period=period), exponential_warmup(step, period=period)
    assert untuned_linear_warmup(step, beta2=1 - 2 / period) == pytest.approx(linear, rel=1e-9)
    assert untuned_exponential_warmup(step, beta2=1 - 1 / period) == pytest.approx(exponential, rel=1e-9)
    assert linear_warmup(period - 1, period=period) == 1.0
    assert linear_warmup(period - 2, period=period) < 1.0


@pytest.mark.parametrize(("beta2", "linear", "exponential", "above_5", "above_4"), SPEC_PERIODS)
def test_effective_periods_of_the_specification(
    beta2: float, linear: float, exponential: float, above_5: float, above_4: float
) -> None:
    def period(function: Callable[..., float], **options: Any) -> float:
        return effective_warmup_period(partial(function, beta2=beta2, **options))

    assert period(untuned_linear_warmup) == pytest.approx(linear, rel=1e-9)
    assert period(untuned_exponential_warmup) == pytest.approx(exponential, abs=5.1e-7)
    assert period(radam_warmup, threshold=5) == pytest.approx(above_5, abs=5.1e-7)
    assert period(radam_warmup, threshold=4) == pytest.approx(above_4, abs=5.1e-7)


@given(tau=st.integers(1, 3000))
@settings(deadline=None, max_examples=30)
def test_effective_periods_are_as_theory_says(tau: int) -> None:
    # Ma & Yarats, section 4: sums of an arithmetic and of a geometric series.
    assert effective_warmup_period(partial(linear_warmup, period=tau)) == pytest.approx((tau - 1) / 2, rel=1e-9)
    geometric = 1 / math.expm1(1 / tau)
    assert effective_warmup_period(partial(exponential_warmup, period=tau)) == pytest.approx(geometric, rel=1e-9)


def test_a_decay_has_no_effective_period() -> None:
    with pytest.raises(ValueError, match="does not settle at 1 within 5000"):
        effective_warmup_period(partial(linear_decay, num_training_steps=10), max_steps=5000)


ROOT_HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("decay", "at", "expected"),
    [
        (partial(constant), [0, 10**9], [1, 1]),
        (partial(linear_decay, num_training_steps=8), [0, 1, 6, 8, 9], [1, 7 / 8, 1 / 4, 0, 0]),
        (partial(linear_decay, num_training_steps=8, min_lr_ratio=0.5), [0, 4, 8, 99], [1, 0.75, 0.5, 0.5]),
        (partial(cosine_decay, num_training_steps=12), [0, 3, 4, 6, 12], [1, 0.5 + ROOT_HALF / 2, 0.75, 0.5, 0]),
        (partial(cosine_decay, num_training_steps=12, min_lr_ratio=0.2), [0, 4, 6, 12, 20], [1, 0.8, 0.6, 0.2, 0.2]),
        (partial(polynomial_decay, num_training_steps=10), [0, 1, 5, 10, 11], [1, 0.81, 0.25, 0, 0]),
        (partial(polynomial_decay, num_training_steps=10, power=3, min_lr_ratio=0.5), [0, 5, 10], [1, 0.5625, 0.5]),
        (partial(inverse_sqrt_decay, timescale=16), [0, 15, 31, 63], [1, 1, ROOT_HALF, 0.5]),
        (partial(wsd_decay, num_training_steps=100), [0, 89, 90, 95, 100], [1, 1, 1, 0.5, 0]),
        (partial(wsd_decay, num_training_steps=8, decay_ratio=1.0, min_lr_ratio=0.5), [0, 4, 8], [1, 0.75, 0.5]),
        (partial(multistep_decay, milestones=(2, 5), factor=0.1), [0, 1, 2, 4, 5, 50], [1, 1, 0.1, 0.1, 0.01, 0.01]),
        # mid = 10 of 40 steps; value 10 / 130 there, slope 4 / 130 on both sides of it, then straight to 1.
        (partial(smoothed_ramp, start=5, length=40), [0, 5, 15, 30, 45, 60], [0, 0, 1 / 13, 7 / 13, 1, 1]),
        (partial(smoothed_ramp, start=5, length=40), [10], [1 / 13 / 16]),
        (partial(smoothed_ramp, start=0, length=1), [0, 1, 2], [0, 1, 1]),
    ],
)
def test_decays_and_ramp_at_exact_steps(decay: partial[float], at: list[int], expected: list[float]) -> None:
    assert [decay(step) for step in at] == pytest.approx(expected, rel=1e-12, abs=1e-12)


# Certified training specification, 11.6: radius 8/255 from step 391 for 31280 steps; radius 0.1 from 10 for 100.
@pytest.mark.parametrize(
    ("radius", "start", "length", "values"),
    [
        (8 / 255, 391, 31280, {391: 0, 392: 6.45326414e-19, 4301: 1.50829563e-4, 8211: 2.41327300e-3, 31671: 8 / 255}),
        (0.1, 10, 100, {11: 1.969230769e-8, 20: 1.969230769e-4, 34: 6.533435077e-3, 36: 8.923076923e-3}),
        (0.1, 10, 100, {109: 0.09876923077, 110: 0.1, 111: 0.1}),
    ],
)
def test_smoothed_ramp(radius: float, start: int, length: int, values: dict[int, float]) -> None:
    for step, expected in values.items():
        assert radius * smoothed_ramp(step, start=start, length=length) == pytest.approx(expected, rel=1e-8)
