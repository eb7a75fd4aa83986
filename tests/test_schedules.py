"""Schedules against exact arithmetic, the published tables, and the properties that theory gives them."""

import pickle
from decimal import Decimal, getcontext
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_warmup import schedules
from hf_warmup.schedules import (
    effective_warmup_period,
    exponential_warmup,
    linear_warmup,
    radam_warmup,
    smoothed_ramp,
    untuned_exponential_warmup,
    untuned_linear_warmup,
)


getcontext().prec = 60
BETAS = [0.9, 0.95, 0.98, 0.99, 0.999, 0.9999]
UPDATES = [1, 2, 5, 6, 7, 10, 31, 32, 33, 34, 100, 1000, 2000, 20000]


def exact(value: float) -> Decimal:
    return Decimal(value)  # the float's own value, not the decimal that was typed


def exact_rho(t: int, beta2: float) -> Decimal:
    b = exact(beta2)
    return 2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t)


def exact_rectification(t: int, beta2: float, threshold: int) -> Decimal:
    rho, limit = exact_rho(t, beta2), 2 / (1 - exact(beta2)) - 1
    if rho <= threshold:
        return Decimal(0)
    return ((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)).sqrt()


@pytest.mark.parametrize("beta2", BETAS)
@pytest.mark.parametrize("t", UPDATES)
def test_untuned_warmups_equal_sixty_digit_arithmetic(t: int, beta2: float) -> None:
    b = exact(beta2)
    assert untuned_linear_warmup(t - 1, beta2=beta2) == pytest.approx(
        float(min(Decimal(1), t * (1 - b) / 2)), rel=1e-12
    )
    assert untuned_exponential_warmup(t - 1, beta2=beta2) == pytest.approx(float(1 - (-(1 - b) * t).exp()), rel=1e-12)
    for threshold in (4, 5):
        assert radam_warmup(t - 1, beta2=beta2, threshold=threshold) == pytest.approx(
            float(exact_rectification(t, beta2, threshold)), rel=1e-12
        )


# beta2, t, linear, exponential, r_t with rho > 4, r_t with rho > 5: ten published digits.
TABLE = [
    (0.999, 1, 0.0005, 0.0009995002, 0, 0),
    (0.999, 5, 0.0025, 0.0049875208, 0.0173115032, 0),
    (0.999, 6, 0.0030, 0.0059820359, 0.0258211128, 0.0258211128),
    (0.999, 10, 0.0050, 0.0099501663, 0.0489980134, 0.0489980134),
    (0.999, 100, 0.05, 0.0951625820, 0.2153354365, 0.2153354365),
    (0.999, 1000, 0.5, 0.6321205588, 0.6453256523, 0.6453256523),
    (0.999, 2000, 1, 0.8646647168, 0.8283900610, 0.8283900610),
    (0.98, 1, 0.01, 0.0198013267, 0, 0),
    (0.98, 5, 0.05, 0.0951625820, 0.0765527052, 0),
    (0.98, 6, 0.06, 0.1130795633, 0.1155232116, 0.1155232116),
    (0.98, 10, 0.10, 0.1812692469, 0.2197395786, 0.2197395786),
    (0.98, 100, 1, 0.8646647168, 0.8196727884, 0.8196727884),
    (0.98, 1000, 1, 0.9999999979, 0.9999999819, 0.9999999819),
]


@pytest.mark.parametrize(("beta2", "t", "linear", "exponential", "radam4", "radam5"), TABLE)
def test_published_values(
    beta2: float, t: int, linear: float, exponential: float, radam4: float, radam5: float
) -> None:
    assert untuned_linear_warmup(t - 1, beta2=beta2) == pytest.approx(linear, rel=1e-12)
    assert untuned_exponential_warmup(t - 1, beta2=beta2) == pytest.approx(exponential, abs=5.1e-11)
    assert radam_warmup(t - 1, beta2=beta2, threshold=4) == pytest.approx(radam4, abs=5.1e-11)
    assert radam_warmup(t - 1, beta2=beta2) == pytest.approx(radam5, abs=5.1e-11)


@pytest.mark.parametrize("beta2", [0.9, 0.95, 0.98, 0.99, 0.999])
def test_rectification_starts_at_the_fifth_or_sixth_update(beta2: float) -> None:
    def first(threshold: float) -> int:
        return next(t for t in range(1, 20) if radam_warmup(t - 1, beta2=beta2, threshold=threshold) > 0)

    assert (first(4), first(5)) == (5, 6)
    at_once = partial(radam_warmup, beta2=beta2, start="first_rectified")
    assert [at_once(s) for s in range(6)] == [radam_warmup(5, beta2=beta2)] * 6
    assert at_once(6) == radam_warmup(6, beta2=beta2)


@pytest.mark.parametrize(
    ("beta2", "linear", "exponential", "radam5", "radam4"),
    [
        (0.9, 9.5, 9.508332, 14.049596, 13.893486),
        (0.95, 19.5, 19.504166, 24.389565, 24.271425),
        (0.98, 49.5, 49.501667, 55.376833, 55.300280),
        (0.99, 99.5, 99.500833, 106.917318, 106.862847),
        (0.999, 999.5, 999.500083, 1033.341990, 1033.324679),
    ],
)
def test_effective_periods(beta2: float, linear: float, exponential: float, radam5: float, radam4: float) -> None:
    for warmup, expected in (
        (partial(untuned_linear_warmup, beta2=beta2), linear),
        (partial(untuned_exponential_warmup, beta2=beta2), exponential),
        (partial(radam_warmup, beta2=beta2), radam5),
        (partial(radam_warmup, beta2=beta2, threshold=4), radam4),
    ):
        assert effective_warmup_period(warmup) == pytest.approx(expected, abs=1e-6)


def test_a_decay_has_no_effective_period() -> None:
    with pytest.raises(ValueError, match="does not settle"):
        effective_warmup_period(partial(schedules.linear_decay, num_training_steps=10), max_steps=5000)


@given(st.floats(0.7, 0.9999), st.integers(0, 100_000))
def test_warmups_rise_within_the_unit_interval(beta2: float, step: int) -> None:
    for warmup in (untuned_linear_warmup, untuned_exponential_warmup, radam_warmup):
        now, later = warmup(step, beta2=beta2), warmup(step + 1, beta2=beta2)
        assert 0 <= now <= 1 + 1e-12
        assert later >= now - 1e-12


@given(st.integers(1, 500), st.integers(0, 2000))
def test_tuned_and_untuned_warmups_agree_at_the_untuned_length(period: int, step: int) -> None:
    if period > 1:
        assert linear_warmup(step, period=period) == pytest.approx(
            untuned_linear_warmup(step, beta2=1 - 2 / period) if period > 2 else linear_warmup(step, period=period),
            rel=1e-9,
        )
        assert exponential_warmup(step, period=period) == pytest.approx(
            untuned_exponential_warmup(step, beta2=1 - 1 / period), rel=1e-9
        )
    assert linear_warmup(period - 1, period=period) == 1.0
    assert effective_warmup_period(partial(linear_warmup, period=period)) == pytest.approx((period - 1) / 2, abs=1e-9)


DECAYS = [
    partial(schedules.linear_decay, num_training_steps=50, min_lr_ratio=0.2),
    partial(schedules.cosine_decay, num_training_steps=50, min_lr_ratio=0.2),
    partial(schedules.polynomial_decay, num_training_steps=50, min_lr_ratio=0.2, power=3.0),
    partial(schedules.wsd_decay, num_training_steps=50, min_lr_ratio=0.2, decay_ratio=0.3),
    partial(schedules.inverse_sqrt_decay, timescale=10),
    partial(schedules.multistep_decay, milestones=(10, 40), factor=0.5),
]


@pytest.mark.parametrize("decay", DECAYS, ids=lambda d: d.func.__name__)
def test_decays_start_at_one_fall_and_stay(decay: partial[float]) -> None:
    values = [decay(step) for step in range(200)]
    assert values[0] == 1.0
    assert all(a >= b for a, b in zip(values, values[1:], strict=False))
    if "min_lr_ratio" in decay.keywords:
        assert values[50:] == pytest.approx([0.2] * 150)


@pytest.mark.parametrize(
    "schedule", [*DECAYS, partial(untuned_linear_warmup, beta2=0.99)], ids=lambda d: d.func.__name__
)
def test_schedules_survive_pickle_and_need_no_history(schedule: partial[float]) -> None:
    loaded = pickle.loads(pickle.dumps(partial(schedules.product, factors=(schedule, schedules.constant))))
    assert [loaded(step) for step in (70, 3, 0)] == [schedule(step) for step in (70, 3, 0)]


# start, length in steps, then step: share of the full radius (certified training specification, 11.6).
@pytest.mark.parametrize(
    ("start", "length", "values"),
    [
        (391, 31280, {391: 0, 392: 6.45326414e-19, 4301: 1.50829563e-4, 8211: 2.41327300e-3, 31671: 8 / 255}),
        (
            10,
            100,
            {11: 1.969230769e-8, 20: 1.969230769e-4, 34: 6.533435077e-3, 36: 8.923076923e-3, 109: 0.09876923077},
        ),
    ],
)
def test_smoothed_ramp(start: int, length: int, values: dict[int, float]) -> None:
    full = 8 / 255 if start == 391 else 0.1
    for step, expected in values.items():
        assert full * smoothed_ramp(step, start=start, length=length) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: untuned_linear_warmup(0, beta2=1.0), "beta2 must lie strictly between 0 and 1, got 1.0"),
        (lambda: untuned_exponential_warmup(0, beta2=0.0), "beta2"),
        (lambda: radam_warmup(0, beta2=0.5), "RAdam would never rectify"),
        (lambda: radam_warmup(0, beta2=0.999, threshold=3), "threshold must be 4"),
        (lambda: radam_warmup(0, beta2=0.999, start="soon"), "start must be"),
        (lambda: linear_warmup(0, period=0), "period must be positive, got 0"),
        (lambda: exponential_warmup(0, period=-1), "period"),
        (lambda: schedules.linear_decay(0, num_training_steps=0), "num_training_steps must be positive"),
        (
            lambda: schedules.cosine_decay(0, num_training_steps=5, min_lr_ratio=1.5),
            r"min_lr_ratio must lie in \[0, 1\]",
        ),
        (lambda: schedules.polynomial_decay(0, num_training_steps=5, power=0), "power"),
        (lambda: schedules.wsd_decay(0, num_training_steps=5, decay_ratio=0), "decay_ratio"),
        (lambda: schedules.inverse_sqrt_decay(0, timescale=0), "timescale"),
        (lambda: schedules.multistep_decay(0, milestones=(5, 2), factor=0.1), "milestones must increase"),
        (lambda: smoothed_ramp(0, start=0, length=0), "length must be at least 1"),
    ],
)
def test_bad_input_is_named(call: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        call()  # type: ignore[operator]
