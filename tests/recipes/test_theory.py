"""Programs of theory: their recurrences, bounds and gradients hold at small sizes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from theory_programs import common, load, quartic, rivers, stochastic_gap, walled_valley, warmup_gap


Array = np.ndarray[Any, np.dtype[Any]]


def random_schedules(count: int, length: int, largest: float) -> Array:
    """(count, length) step sizes that never increase: first steps over four decades, some steady and some falling."""
    drawn = np.random.default_rng(0)
    first = largest * 10 ** drawn.uniform(-4, 0, (count, 1))
    shares = drawn.uniform(0, 1, (count, length)) ** 10 ** drawn.uniform(-4, 0, (count, 1))
    shares[:, 0] = 1
    return first * np.cumprod(shares, axis=1)


def derivative(function: Any, x: Array, y: Array, *, width: float) -> tuple[Any, Any]:
    """Central differences in both directions."""
    along_x = (np.asarray(function(x + width, y)) - function(x - width, y)) / (2 * width)
    along_y = (np.asarray(function(x, y + width)) - function(x, y - width)) / (2 * width)
    return along_x, along_y


def hessian_norm(gradient: Any, x: Array, y: Array, *, width: float) -> Array:
    """Spectral norm of the Hessian, from differences of the gradient."""
    (xx, xy), (yx, yy) = derivative(gradient, x, y, width=width)
    matrices = np.moveaxis(np.array([[xx, (xy + yx) / 2], [(xy + yx) / 2, yy]]), (0, 1), (-2, -1))
    return np.abs(np.linalg.eigvalsh(matrices)).max(axis=-1)


@pytest.mark.parametrize("length", [1, 7])
def test_schedules_start_at_one_and_never_increase(length: int) -> None:
    for shape in common.nonincreasing(length).values():
        assert shape.shape == (length,)
        assert shape[0] == 1
        assert np.all(np.diff(shape) <= 0)
        assert shape[-1] >= 0


def test_slope_of_a_power_is_its_exponent() -> None:
    slope = common.fitted_slope([1, 10, 100], [5.0, 50.0, 500.0])
    assert slope["slope"] == pytest.approx(1, rel=1e-12)
    assert common.power(slope) == "T^1.00 (95% interval 1.00 to 1.00)"
    # By hand: points (0, 0), (1, 1), (2, 0) in logarithms lie around a slope of 0 with standard error 1 / sqrt 3,
    # and Student's t at one degree of freedom is tan(0.475 pi).
    low, high = common.fitted_slope([1, np.e, np.e**2], [1, np.e, 1])["interval_95"]
    assert high == pytest.approx(np.tan(0.475 * np.pi) / np.sqrt(3), rel=1e-9)
    assert low == pytest.approx(-high, rel=1e-9)


@pytest.mark.parametrize("c", [0.3, 1.0])
def test_quartic_rule_is_linear(c: float) -> None:
    x, steps = quartic.follow_rule(2.0, 20, c)
    np.testing.assert_allclose(x, 2 * (1 - c / 3) ** np.arange(21), rtol=1e-12)
    np.testing.assert_allclose(steps, c / 12 / np.square(x[:-1]), rtol=1e-12)


def test_quartic_descends_its_gradient() -> None:
    start, step, width = 1.3, 0.02, 1e-6
    slope = ((start + width) ** 4 - (start - width) ** 4) / (2 * width)
    [loss] = quartic.descend(np.array([step]), np.array([start]))
    assert loss == pytest.approx((start - step * slope) ** 4, rel=1e-8)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    first=st.floats(1e-3, 2),
    shares=arrays(np.float64, st.integers(0, 15), elements=st.floats(0.1, 1) | st.just(1.0)),
)
def test_quartic_floor_holds_for_all_schedules(first: float, shares: Array) -> None:
    steps = first * np.append(1, np.cumprod(shares))
    assert quartic.descend(steps, np.linspace(1, 2, 2001)).max() >= quartic.lower_bound(len(steps))


def test_quartic_floor_holds_near_the_best_schedules() -> None:
    # The best constant steps lie just below 1/8, and steps may start above them.
    for length in (1, 2, 3, 10, 50):
        steps = random_schedules(400, length, 0.3).T
        worst = quartic.descend(steps, np.linspace(1, 2, 501)).max(axis=-1)
        assert np.all(worst >= quartic.lower_bound(length))


def test_walled_valley_is_smooth_as_claimed() -> None:
    edge = walled_valley.EDGE
    x, y = np.meshgrid(np.linspace(-4, 6, 401), np.linspace(-3, 8, 45))
    # The second derivative jumps on the edge of the plateau alone.
    inside = np.abs(x - edge) > 1e-3
    numerical = derivative(walled_valley.loss, x, y, width=1e-5)
    for exact, measured in zip(walled_valley.gradient(x, y), numerical, strict=True):
        np.testing.assert_allclose(measured[inside], exact[inside], rtol=1e-6, atol=1e-6)
    norm = hessian_norm(walled_valley.gradient, x, y, width=1e-6)
    assert np.all(norm[inside] <= (1 + walled_valley.loss(x, y))[inside] * (1 + 1e-6))
    assert np.all(walled_valley.gradient(np.array([edge, -50.0]), np.zeros(2))[0] == 0)


@pytest.mark.parametrize("power", [0, 2, 5, 300])
def test_first_step_of_one_over_length_reaches_the_plateau(power: int) -> None:
    x, y = walled_valley.start(10**power)
    assert y == 0
    assert np.sinh(x) / (x - walled_valley.EDGE) == pytest.approx(10.0**power, rel=1e-11)


def test_walled_rule_is_one_over_the_curvatures_bound() -> None:
    x, y = np.array([0.3, 2.0]), np.array([1.0, -0.5])
    for peak in (1.0, 0.1):
        expected = 1 / (1 / peak + walled_valley.loss(x, y))
        np.testing.assert_allclose(walled_valley.rule(50, peak)(0, x, y), expected, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 10, 100])
def test_warmup_gap_floor_holds_for_random_schedules(length: int) -> None:
    schedules = random_schedules(200, length, 100 / length)
    losses = walled_valley.descend(length, lambda t, x, y: schedules[:, t])
    assert np.all(losses >= warmup_gap.lower_bound(length) - 1e-12)
    assert warmup_gap.lower_bound(length) >= warmup_gap.FLOOR == pytest.approx(0.474, abs=1e-4)


@pytest.mark.parametrize("length", [50, 200, 1000])
def test_warmup_gap_rule_is_as_fast_as_proven(length: int) -> None:
    losses = walled_valley.curve(length, walled_valley.rule(length, 1.0))
    assert len(losses) == length + 1
    assert np.all(np.diff(losses) < 0)
    wall = 2 * float(walled_valley.start(length)[0])
    assert losses[-1] <= 4.6 / (length - wall)
    assert losses[-1] == pytest.approx(
        float(walled_valley.descend(length, walled_valley.rule(length, 1.0))), rel=1e-12
    )


def test_linear_warmup_stops_at_its_peak() -> None:
    step = warmup_gap.linear(np.array([0.1, 0.4]), np.array([[0.3], [9.0]]))
    np.testing.assert_allclose(step(3, np.zeros(()), np.zeros(())), [[0.3, 0.3], [0.4, 1.6]])


class Enumerated:
    """In place of a random generator: at each call the signs of all 4^T outcomes of T updates."""

    def __init__(self, updates: int) -> None:
        self.outcomes, self.calls = np.arange(4**updates), 0

    def integers(self, low: int, high: int, size: tuple[int, int], dtype: type) -> Array:
        assert (low, high, size) == (0, 2, (2, len(self.outcomes)))
        bits = self.outcomes // 4**self.calls % 4
        self.calls += 1
        return np.stack([bits % 2, bits // 2]).astype(dtype)


def test_noise_is_unbiased_and_has_the_variance_claimed() -> None:
    x, y = np.array([[1.5], [-0.7], [-5.0]]), np.array([[0.2], [1.0], [3.0]])
    seen = walled_valley.noisy_gradient(Enumerated(1), 4)(x, y)
    exact = walled_valley.gradient(x, y)
    for one, expected in zip(seen, exact, strict=True):
        np.testing.assert_allclose(one.mean(axis=-1, keepdims=True), expected, rtol=1e-12, atol=1e-15)
    squared = sum((one - expected) ** 2 for one, expected in zip(seen, exact, strict=True))
    a, b, c = (walled_valley.NOISE[name] for name in "ABC")
    claimed = a * walled_valley.loss(x, y) + b * (exact[0] ** 2 + exact[1] ** 2) + c
    np.testing.assert_allclose(squared.mean(axis=-1, keepdims=True), claimed, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_stochastic_floor_holds_in_exact_expectation(length: int) -> None:
    steps = random_schedules(200, length, 100 / length)
    noisy = walled_valley.noisy_gradient(Enumerated(length), 4**length)
    expected = walled_valley.descend(length, lambda t, x, y: steps[:, t, None], noisy).mean(axis=-1)
    assert np.all(expected >= stochastic_gap.FLOOR)
    assert stochastic_gap.FLOOR == pytest.approx(0.313, abs=5e-4)


@pytest.mark.parametrize("peak", [0.2, 1.0])
def test_noisy_rule_never_comes_near_the_plateau(peak: float) -> None:
    noisy = walled_valley.noisy_gradient(np.random.default_rng(0), 200)
    points = common.states(300, walled_valley.start(300), walled_valley.rule(300, peak), noisy)
    assert min(np.min(x) for x, _ in points) > -0.21


@pytest.mark.parametrize("name", ["open", "closed"])
def test_rivers_are_smooth_as_claimed(name: str) -> None:
    river = rivers.RIVERS[name]
    x, y = np.meshgrid(np.linspace(-4, 4, 81), np.linspace(-8, 8, 81))
    numerical = derivative(river.loss, x, y, width=1e-5)
    for exact, measured in zip(river.gradient(x, y), numerical, strict=True):
        np.testing.assert_allclose(measured, exact, rtol=1e-6, atol=1e-5)
    norm = hessian_norm(river.gradient, x, y, width=1e-5)
    assert np.all(norm <= (1 + river.k1 * river.loss(x, y)) * (1 + 1e-6))
    rule = river.rule(0.25, (x[0, 0], y[0, 0]))(0, x, y)
    np.testing.assert_allclose(rule, 1 / (1 + 0.25 * river.k1 * river.loss(x, y)), rtol=1e-12)


@pytest.mark.parametrize("name", ["open", "closed"])
def test_safe_rule_never_lets_the_loss_rise_in_a_river_valley(name: str) -> None:
    river = rivers.RIVERS[name]
    start = river.starts()
    points = common.states(100, start, river.rule(1, start), river.gradient)
    losses = np.array([river.loss(*point) for point in points])
    assert np.all(np.diff(losses, axis=0) <= 0)


def test_diverged_runs_are_the_worst() -> None:
    module = load("river_valley")
    losses = module.worst_loss(rivers.RIVERS["closed"], 20, lambda t, x, y: np.array([0.01, 100.0])[:, None, None])
    assert losses[0] < 20
    assert losses[1] == np.inf
