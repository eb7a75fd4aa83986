"""Every entry of RULES: clean results as torch's, bounds sound at corners and random points, tight at radius 0."""

from collections.abc import Callable
from typing import Any

import case_inputs
import pytest
import rule_cases
import torch
from case_inputs import CONSTANT, CONSTANTS, DOUBLE, FLAT
from rule_cases import CASES, NAMED
from torch.nn import functional as F

from hf_warmup.bounds import RULES, Interval, UnsupportedOperation, input_interval
from hf_warmup.bounds.exact import exactly


def ball(shape: tuple[int, ...], eps: float, *, rounding: float = 0.0) -> Interval:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), **DOUBLE)
    return input_interval(x, eps, lowest=-9.0, highest=9.0, rounding=rounding)


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("name", NAMED)
def test_bounds_hold_at_corners_and_random_points(name: str) -> None:
    shape, call = NAMED[name][1]
    generator = torch.Generator().manual_seed(2)
    for eps in (1e-3, 0.3, 3.0):
        interval = ball(shape, eps)
        bounds = call(interval)
        assert isinstance(bounds, Interval)
        with exactly():
            assert torch.equal(bounds.clean, call(interval.clean)), "the clean pass is torch's own"
        slack = 1e-12 * (1 + bounds.center.abs() + bounds.radius)
        for draw in range(60):
            direction = 2 * torch.rand(shape, generator=generator, **DOUBLE) - 1
            point = interval.center + interval.radius * (direction.sign() if draw % 2 else direction)
            with exactly():
                value = call(point)
            assert (value >= bounds.lower - slack).all()
            assert (value <= bounds.upper + slack).all()


@pytest.mark.parametrize("name", NAMED)
def test_bounds_are_tight_at_radius_zero_and_grow_with_it(name: str) -> None:
    shape, call = NAMED[name][1]
    point = call(ball(shape, 0.0))
    assert point.center == pytest.approx(point.clean, rel=1e-9, abs=1e-9)
    assert point.radius.max() <= 1e-9
    small, large = call(ball(shape, 0.1)), call(ball(shape, 0.2))
    assert (large.lower <= small.lower + 1e-12).all()
    assert (large.upper >= small.upper - 1e-12).all()


def _constants_as(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CONSTANTS:
        number = getattr(case_inputs, name).to(dtype)
        for module in (case_inputs, rule_cases):
            monkeypatch.setattr(module, name, number, raising=False)


@pytest.mark.parametrize(
    "name", [n for n in NAMED if not n.endswith(("Tensor.to", "TensorBase.to", "double", "type_as"))]
)
def test_float32_with_rounding_encloses_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, call = NAMED[name][1]
    x = ball(shape, 0.0).clean.float()
    radius = torch.full_like(x, 0.1)
    _constants_as(torch.float32, monkeypatch)
    rough = call(Interval(x, x, radius, rounding=2.0**-24))
    # The same numbers in both precisions: the test is of the rules' rounding, not of the weights'.
    _constants_as(torch.float64, monkeypatch)
    exact = call(Interval(x.double(), x.double(), radius.double()))
    assert (rough.lower.double() <= exact.lower).all()
    assert (rough.upper.double() >= exact.upper).all()
    # Not by much, or the test would pass for any bound.
    assert ((exact.lower - rough.lower) <= 1e-3 * (1 + exact.lower.abs() + exact.radius)).all()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.half(), "no rule"),
        (lambda x: x.to(torch.bfloat16), "loses precision"),
        (lambda x: x.long(), "no rule"),
        (lambda x: torch.digamma(x), "no rule bounds the operation torch.digamma"),
        (lambda x: F.dropout(x, 0.5, training=True), "dropout in training"),
        (lambda x: F.linear(CONSTANT, x[0]), "weights are intervals"),
        (lambda x: torch.add(x, x, alpha=2), "alpha"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), "dropout"),
        (lambda x: x.cumprod(1), "no rule"),
        (lambda x: x.max(1).indices + 1, "largest or smallest"),
        (lambda x: x[x.max(1)[1]], "largest or smallest"),
        (lambda x: F.rms_norm(x, (6,)), "eps=None"),
        (lambda x: torch.where(x > 0, x, 0.0), "comparing"),
        (lambda x: F.softplus(x, -1.0), "beta"),
        (lambda x: CONSTANT.clone().__setitem__(0, x[0]), "part of a constant"),
    ],
)
def test_what_has_no_rule_raises(call: Callable[[Any], Any], expected: str) -> None:
    with pytest.raises(UnsupportedOperation, match=expected):
        call(ball(FLAT, 0.1))


def test_intervals_are_iterated_over_as_tensors_are() -> None:
    x = ball(FLAT, 0.1)
    assert [torch.equal(part.center, x.center[i]) for i, part in enumerate(x)] == [True, True]
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        x.no_such_thing  # noqa: B018
