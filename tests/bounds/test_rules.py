"""Every entry of RULES: clean results as torch's, bounds sound at corners and random points, tight at radius 0."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds import RULES, Interval, UnsupportedOperation, input_interval


torch.manual_seed(0)
DOUBLE = {"dtype": torch.float64}
W1, W2 = torch.randn(5, 3, 3, **DOUBLE), torch.randn(4, 3, 3, 3, **DOUBLE)
LINEAR, BIAS = torch.randn(7, 6, **DOUBLE), torch.randn(7, **DOUBLE)
CONSTANT = torch.randn(2, 3, 6, **DOUBLE)
MATRIX = torch.randn(6, 4, **DOUBLE)
MEAN, VARIANCE, GAMMA, BETA = (
    torch.randn(3, **DOUBLE),
    torch.rand(3, **DOUBLE) + 0.1,
    CONSTANT[0, :, 0],
    CONSTANT[0, :, 1],
)

FLAT, IMAGE = (2, 3, 6), (2, 3, 6, 6)
# Per rule: the shape of its input, and a call of the operation with everything else filled in.
Case = tuple[tuple[int, ...], Callable[[Any], Any]]
CASES: dict[Callable[..., Any], Case] = {
    F.linear: (FLAT, lambda x: F.linear(x, LINEAR, BIAS)),
    F.conv1d: (FLAT, lambda x: F.conv1d(x, W1, BIAS[:5], padding=1, stride=2)),
    torch.conv1d: (FLAT, lambda x: torch.conv1d(x, W1)),
    F.conv2d: (IMAGE, lambda x: F.conv2d(x, W2, BIAS[:4], stride=2, padding=1)),
    torch.conv2d: (IMAGE, lambda x: torch.conv2d(x, W2[:3, :1], None, 1, 0, 1, 3)),
    F.batch_norm: (IMAGE, lambda x: F.batch_norm(x, MEAN, VARIANCE, GAMMA, BETA)),
    torch.add: (FLAT, lambda x: torch.add(x, CONSTANT)),
    Tensor.add: (FLAT, lambda x: x.add(x)),
    Tensor.__add__: (FLAT, lambda x: CONSTANT + x),
    Tensor.__radd__: (FLAT, lambda x: 1.5 + x),
    torch.sub: (FLAT, lambda x: torch.sub(x, CONSTANT)),
    Tensor.sub: (FLAT, lambda x: x.sub(x)),
    Tensor.__sub__: (FLAT, lambda x: CONSTANT - x),
    Tensor.__rsub__: (FLAT, lambda x: 2.0 - x),
    torch.neg: (FLAT, torch.neg),
    Tensor.neg: (FLAT, lambda x: -x),
    torch.mul: (FLAT, lambda x: torch.mul(x, CONSTANT)),
    Tensor.mul: (FLAT, lambda x: x.mul(x)),
    Tensor.__mul__: (FLAT, lambda x: CONSTANT * x),
    Tensor.__rmul__: (FLAT, lambda x: -0.5 * x),
    torch.div: (FLAT, lambda x: torch.div(x, CONSTANT)),
    Tensor.div: (FLAT, lambda x: x.div(-3.0)),
    Tensor.__truediv__: (FLAT, lambda x: x / 7),
    torch.matmul: (FLAT, lambda x: torch.matmul(x, MATRIX)),
    Tensor.matmul: (FLAT, lambda x: x.matmul(x.transpose(1, 2))),
    Tensor.__matmul__: (FLAT, lambda x: MATRIX.T @ x.transpose(1, 2)),
    torch.bmm: (FLAT, lambda x: torch.bmm(x, x.transpose(1, 2))),
    F.avg_pool2d: (IMAGE, lambda x: F.avg_pool2d(x, 3, 2, 1)),
    F.adaptive_avg_pool1d: (FLAT, lambda x: F.adaptive_avg_pool1d(x, 4)),
    F.adaptive_avg_pool2d: (IMAGE, lambda x: F.adaptive_avg_pool2d(x, (1, 1))),
    torch.mean: (FLAT, lambda x: torch.mean(x, 1)),
    Tensor.mean: (FLAT, lambda x: x.mean([1, 2])),
    F.relu: (FLAT, lambda x: F.relu(x, inplace=True)),
    torch.relu: (FLAT, torch.relu),
    Tensor.relu: (FLAT, lambda x: x.relu()),
    F.leaky_relu: (FLAT, lambda x: F.leaky_relu(x, 0.2)),
    F.hardtanh: (FLAT, lambda x: F.hardtanh(x, -0.3, 0.4)),
    F.relu6: (FLAT, lambda x: F.relu6(x * 5)),
    torch.sigmoid: (FLAT, torch.sigmoid),
    Tensor.sigmoid: (FLAT, lambda x: x.sigmoid()),
    torch.tanh: (FLAT, torch.tanh),
    Tensor.tanh: (FLAT, lambda x: x.tanh()),
    F.gelu: (FLAT, lambda x: F.gelu(x, approximate="tanh") + F.gelu(x)),
    F.silu: (FLAT, F.silu),
    F.dropout: (FLAT, lambda x: F.dropout(x, 0.5, training=False)),
    F.max_pool2d: (IMAGE, lambda x: F.max_pool2d(x, 3, 2, 1)),
    F.adaptive_max_pool2d: (IMAGE, lambda x: F.adaptive_max_pool2d(x, 2)),
    F.layer_norm: (FLAT, lambda x: F.layer_norm(x, (6,), LINEAR[0], LINEAR[1])),
    F.log_softmax: (FLAT, lambda x: F.log_softmax(x, -1)),
    torch.log_softmax: (FLAT, lambda x: torch.log_softmax(x, 1)),
    Tensor.log_softmax: (FLAT, lambda x: x.log_softmax(-1)),
    torch.flip: (FLAT, lambda x: torch.flip(x, (1,))),
    Tensor.flip: (FLAT, lambda x: x.flip(-1)),
    torch.square: (FLAT, torch.square),
    Tensor.square: (FLAT, lambda x: x.square()),
    torch.reciprocal: (FLAT, lambda x: torch.reciprocal(x.square() + 1)),
    Tensor.reciprocal: (FLAT, lambda x: (x.square() + 1).reciprocal()),
    F.group_norm: (IMAGE, lambda x: F.group_norm(x.repeat(1, 2, 1, 1)[:, :4], 2, BIAS[:4], BIAS[:4])),
    torch.clamp: (FLAT, lambda x: torch.clamp(x, -0.5, 0.5)),
    Tensor.clamp: (FLAT, lambda x: x.clamp(min=0.1)),
    F.softmax: (FLAT, lambda x: F.softmax(x, -1)),
    torch.softmax: (FLAT, lambda x: torch.softmax(x, 1)),
    Tensor.softmax: (FLAT, lambda x: x.softmax(-1)),
    F.scaled_dot_product_attention: (FLAT, lambda x: F.scaled_dot_product_attention(x, x * 2, x - 1)),
    torch.flatten: (IMAGE, lambda x: torch.flatten(x, 1)),
    Tensor.flatten: (IMAGE, lambda x: x.flatten(2)),
    torch.reshape: (FLAT, lambda x: torch.reshape(x, (2, -1))),
    Tensor.reshape: (FLAT, lambda x: x.reshape(2, 18)),
    Tensor.view: (FLAT, lambda x: x.view(6, -1)),
    torch.permute: (FLAT, lambda x: torch.permute(x, (2, 0, 1))),
    Tensor.permute: (FLAT, lambda x: x.permute(0, 2, 1)),
    torch.transpose: (FLAT, lambda x: torch.transpose(x, 0, 2)),
    Tensor.transpose: (FLAT, lambda x: x.transpose(1, 2)),
    torch.squeeze: ((2, 1, 6), lambda x: torch.squeeze(x, 1)),
    Tensor.squeeze: ((2, 1, 6), lambda x: x.squeeze()),
    torch.unsqueeze: (FLAT, lambda x: torch.unsqueeze(x, 1)),
    Tensor.unsqueeze: (FLAT, lambda x: x.unsqueeze(-1)),
    Tensor.expand: ((2, 1, 6), lambda x: x.expand(2, 3, -1)),
    Tensor.contiguous: (FLAT, lambda x: x.contiguous()),
    Tensor.chunk: (FLAT, lambda x: x.chunk(2, -1)[1]),
    torch.chunk: (FLAT, lambda x: torch.chunk(x, 3, 1)[0]),
    Tensor.split: (FLAT, lambda x: x.split(4, -1)[0]),
    Tensor.__getitem__: (FLAT, lambda x: x[:, 0, 1:4]),
    Tensor.to: (FLAT, lambda x: x.to(torch.float64)),
    Tensor.float: (FLAT, None),  # loses precision here: see below
    Tensor.double: (FLAT, lambda x: x.double()),
    Tensor.type_as: (FLAT, lambda x: x.type_as(CONSTANT)),
    torch.unbind: (FLAT, lambda x: torch.unbind(x, 1)[1]),
    Tensor.unbind: (FLAT, lambda x: x.unbind(-1)[0]),
    torch.split: (FLAT, lambda x: torch.split(x, [2, 4], -1)[1]),
    torch.roll: (FLAT, lambda x: torch.roll(x, 1, 1)),
    Tensor.roll: (FLAT, lambda x: x.roll(2, -1)),
    Tensor.repeat: (FLAT, lambda x: x.repeat(1, 2, 1)),
    Tensor.unflatten: (FLAT, lambda x: x.unflatten(2, (2, 3))),
    torch.swapaxes: (FLAT, lambda x: torch.swapaxes(x, 1, 2)),
    Tensor.swapaxes: (FLAT, lambda x: x.swapaxes(1, 2)),
    torch.narrow: (FLAT, lambda x: torch.narrow(x, 2, 1, 3)),
    Tensor.narrow: (FLAT, lambda x: x.narrow(1, 0, 2)),
    torch.index_select: (FLAT, lambda x: torch.index_select(x, 1, torch.tensor([2, 0]))),
    Tensor.index_select: (FLAT, lambda x: x.index_select(2, torch.tensor([1, 1, 5]))),
    torch.movedim: (FLAT, lambda x: torch.movedim(x, 1, 2)),
    Tensor.movedim: (FLAT, lambda x: x.movedim(1, 2)),
    F.pixel_shuffle: (IMAGE, lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)),
    F.pixel_unshuffle: (IMAGE, lambda x: F.pixel_unshuffle(x, 2)),
    F.hardsigmoid: (FLAT, lambda x: F.hardsigmoid(x * 3)),
    torch.exp: (FLAT, lambda x: torch.exp(x)),
    Tensor.exp: (FLAT, lambda x: x.exp()),
    F.hardswish: (FLAT, lambda x: F.hardswish(x * 2)),
    torch.amax: (FLAT, lambda x: torch.amax(x, 1)),
    Tensor.amax: (FLAT, lambda x: x.amax((1, 2))),
    torch.amin: (FLAT, lambda x: torch.amin(x, -1)),
    Tensor.amin: (FLAT, lambda x: x.amin(1, keepdim=True)),
    torch.sum: (FLAT, lambda x: torch.sum(x, 1)),
    Tensor.sum: (FLAT, lambda x: x.sum((1, 2))),
    torch.cat: (FLAT, lambda x: torch.cat([x, CONSTANT, x], 1)),
    torch.stack: (FLAT, lambda x: torch.stack([x, CONSTANT], -1)),
    F.pad: (IMAGE, lambda x: F.pad(F.pad(x, (1, 2), value=3.0), (1, 1, 1, 1), mode="replicate")),
    F.interpolate: (IMAGE, lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
}
NAMED = {f"{i}-{getattr(f, '__qualname__', f)}": (f, case) for i, (f, case) in enumerate(CASES.items()) if case[1]}


def ball(shape: tuple[int, ...], eps: float, *, rounding: float = 0.0) -> Interval:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), **DOUBLE)
    return input_interval(x, eps, lowest=-9.0, highest=9.0, rounding=rounding)


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("eps", [1e-3, 0.3, 3.0])
def test_bounds_hold_at_corners_and_random_points(name: str, eps: float) -> None:
    shape, call = NAMED[name][1]
    interval = ball(shape, eps)
    bounds = call(interval)
    assert isinstance(bounds, Interval)
    assert torch.equal(bounds.clean, call(interval.clean)), "the clean pass is torch's own"
    generator = torch.Generator().manual_seed(2)
    slack = 1e-12 * (1 + bounds.center.abs() + bounds.radius)
    for draw in range(300):
        direction = 2 * torch.rand(shape, generator=generator, **DOUBLE) - 1
        point = interval.center + interval.radius * (direction.sign() if draw % 2 else direction)
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


CONSTANTS = ("W1", "W2", "LINEAR", "BIAS", "CONSTANT", "MATRIX", "MEAN", "VARIANCE", "GAMMA", "BETA")


@pytest.mark.parametrize("name", [n for n in NAMED if not n.endswith(("Tensor.to", "Tensor.double"))])
def test_float32_with_rounding_encloses_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, call = NAMED[name][1]
    x = ball(shape, 0.0).clean.float()
    radius = torch.full_like(x, 0.1)
    for constant in CONSTANTS:
        monkeypatch.setitem(globals(), constant, globals()[constant].float())
    rough = call(Interval(x, x, radius, rounding=2.0**-24))
    for constant in CONSTANTS:
        # The same numbers in both precisions: the test is of the rules' rounding, not of the weights'.
        monkeypatch.setitem(globals(), constant, globals()[constant].double())
    exact = call(Interval(x.double(), x.double(), radius.double()))
    assert (rough.lower.double() <= exact.lower).all()
    assert (rough.upper.double() >= exact.upper).all()
    # Not by much, or the test would pass for any bound.
    assert ((exact.lower - rough.lower) <= 1e-3 * (1 + exact.lower.abs() + exact.radius)).all()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.float(), "loses precision"),
        (lambda x: x.long(), "no rule"),
        (lambda x: torch.digamma(x), "no rule bounds the operation .*digamma"),
        (lambda x: F.dropout(x, 0.5, training=True), "dropout in training"),
        (lambda x: F.leaky_relu(x, -0.1), "negative_slope"),
        (lambda x: 1 / x, "interval that reaches 0"),
        (lambda x: x / x, "interval that reaches 0"),
        (lambda x: F.linear(CONSTANT, x[0]), "weights are intervals"),
        (lambda x: torch.add(x, x, alpha=2), "alpha"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), "dropout"),
        (lambda x: F.interpolate(x, scale_factor=2.0, mode="linear"), "nearest"),
        (lambda x: x.cumsum(1), "no rule"),
    ],
)
def test_what_has_no_rule_raises(call: Callable[[Any], Any], expected: str) -> None:
    with pytest.raises(UnsupportedOperation, match=expected):
        call(ball(FLAT, 0.1))


def test_intervals_are_not_sequences() -> None:
    with pytest.raises(TypeError):
        iter(ball(FLAT, 0.1))
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        ball(FLAT, 0.1).no_such_thing  # noqa: B018
