"""Backward linear bounds: the paper's vectors, soundness of every rule, exactness without activations, rounding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear_nets import DOUBLE, UNIT, random_net, two_layers
from test_rules import CASES, ball
from torch import nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, input_interval, margins, propagate
from hf_warmup.bounds.linear import (
    LINEAR_RULES,
    alpha_margins,
    linear_margins,
    lower_bounds,
    margins_with,
    refiner,
    with_steps,
)
from hf_warmup.bounds.linear.affine import affine


NAMED = {f"{i}-{getattr(f, '__qualname__', f)}": f for i, f in enumerate(LINEAR_RULES) if CASES[f][1] is not None}


@pytest.mark.parametrize(("eps", "expected"), [(0.1, [1.35, 3.05]), (0.3, [-0.45, 0.75])])
def test_crown_ibp_of_two_layers(eps: float, expected: list[float]) -> None:
    # Zhang et al., arXiv 1906.06316, with the adaptive slope; by hand.
    box = input_interval(torch.tensor([[0.5, 0.2]], **DOUBLE), eps, lowest=-9.0, highest=9.0)
    with torch.no_grad():
        found = linear_margins(propagate(two_layers(), with_steps(box)), torch.tensor([0]), rules=LINEAR_RULES)
    assert found[0].tolist() == pytest.approx(expected, rel=1e-12)


def functional(name: str) -> Callable[[Any], Any]:
    """The rule's operation between others, so that rows arrive with both signs and go on behind it."""
    call = CASES[NAMED[name]][1]
    return lambda x: call(x * 1.5 - 0.25)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("rounding", [0.0, UNIT])
def test_rows_hold_at_corners_and_random_points(name: str, rounding: float) -> None:
    shape, call = CASES[NAMED[name]][0], functional(name)
    for eps in (1e-3, 0.4, 3.0):
        box = ball(shape, eps, rounding=rounding)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            bounds = call(with_steps(box))
            # Rules may return something that is not image by image; then there is nothing to ask of rows.
            rows = torch.randn(5, *bounds.shape, generator=generator, **DOUBLE)
            lower = lower_bounds(bounds, rows, rules=LINEAR_RULES)
            directions = 2 * torch.rand(200, *shape, generator=generator, **DOUBLE) - 1
            directions[1::2] = directions[1::2].sign()
            values = torch.stack([call(point) for point in box.center + box.radius * directions])
            if rows.dim() > 2:
                reached = torch.einsum("rbk,dbk->drb", rows.flatten(2), values.flatten(2).double())
            else:
                reached = rows * values[:, None]
            assert (reached >= lower - 1e-11 * (1 + lower.abs())).all(), eps


@pytest.mark.parametrize("seed", range(12))
def test_margins_of_random_nets_hold_and_are_ordered(seed: int) -> None:
    net, x = random_net(seed)
    labels, eps = torch.tensor([0, 3, 4]), [0.002, 0.03, 0.3][seed % 3]
    lower, upper = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    with torch.no_grad():
        box = input_interval(x, eps, rounding=UNIT)
        unrelaxed: set[str] = set()
        by_intervals = linear_margins(propagate(net, with_steps(box)), labels, rules=LINEAR_RULES, unrelaxed=unrelaxed)
        crown = linear_margins(
            propagate(net, with_steps(box, refine=refiner(LINEAR_RULES, budget=20_000))), labels, rules=LINEAR_RULES
        )
        assert unrelaxed == set()
        # Narrower inputs make other lines, so single margins may be lower; on the whole they are higher.
        assert (crown - by_intervals).mean() >= -1e-9
        assert (crown >= margins(propagate(net, box), labels)).all() or seed % 3 == 2
        points = torch.rand(400, *x.shape, **DOUBLE)
        points[200:] = points[200:].round()
        logits = net((lower + (upper - lower) * points).flatten(0, 1)).view(400, 3, 5)
        own = logits.gather(2, labels.expand(400, -1)[:, :, None])
        rivals = torch.tensor([[j for j in range(5) if j != label] for label in labels.tolist()])
        reached = (own - logits.gather(2, rivals.expand(400, -1, -1))).amin(0)
        assert (reached >= crown).all()
        assert (reached >= by_intervals).all()


def test_affine_nets_are_exact() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, 4)).double()
    x, eps = torch.rand(2, 1, 6, 6, **DOUBLE) * 0.2 + 0.4, 0.1
    with torch.no_grad():
        labels = torch.tensor([1, 2])
        found = linear_margins(propagate(net, with_steps(input_interval(x, eps))), labels, rules=LINEAR_RULES)
        matrix = torch.stack([net(unit.view(1, 1, 6, 6))[0] - net(torch.zeros(1, 1, 6, 6, **DOUBLE))[0]
                              for unit in torch.eye(36, **DOUBLE)], 1)  # fmt: skip
        logits = net(x)
        for image, label in enumerate(labels.tolist()):
            rivals = [j for j in range(4) if j != label]
            size = (matrix[label] - matrix[rivals]).abs().sum(1) * eps
            assert found[image] == pytest.approx(logits[image, label] - logits[image, rivals] - size, rel=1e-12)


def test_rounding_only_lowers_and_by_little() -> None:
    # Without maximum pooling, whose choice between equal ends hangs on the last digit.
    net, x = random_net(6)
    labels = torch.tensor([0, 3, 4])
    with torch.no_grad():
        plain, rigorous = (
            linear_margins(
                propagate(net, with_steps(input_interval(x, 0.03, rounding=unit))), labels, rules=LINEAR_RULES
            )
            for unit in (0.0, UNIT)
        )
    assert (rigorous < plain).all()
    assert (plain - rigorous).max() < 1e-9


def test_float32_with_rounding_stays_below_float64() -> None:
    # In float32 a step's rounding is 2**29 times larger, so what is paid for it can be seen.
    for seed in range(6):
        net, x = random_net(seed)
        net, x = net.float(), x.float()
        labels = torch.tensor([0, 3, 4])
        with torch.no_grad():
            box = input_interval(x, 0.02, rounding=2.0**-24)
            rough = linear_margins(propagate(net, with_steps(box)), labels, rules=LINEAR_RULES)
            lower, upper = box.lower.double(), box.upper.double()
            inside = Interval(x.double(), (lower + upper) / 2, (upper - lower) / 2 * (1 - 1e-5))
            exact = linear_margins(propagate(net.double(), with_steps(inside)), labels, rules=LINEAR_RULES)
        assert (rough.double() <= exact + 1e-12).all()


def test_bounds_have_gradients() -> None:
    net, x = random_net(0)
    logits = propagate(net, with_steps(input_interval(x, 0.01)))
    linear_margins(logits, torch.tensor([0, 3, 4]), rules=LINEAR_RULES).sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("seed", [0, 1, 6, 7])
def test_slopes_of_alpha_crown_prove_more_and_hold(seed: int) -> None:
    net, x = random_net(seed)
    labels, eps = torch.tensor([0, 3, 4]), 0.05
    box = input_interval(x, eps, rounding=UNIT)
    logits = propagate(net, with_steps(box))
    found, slopes = alpha_margins(logits, labels, rules=LINEAR_RULES, iterations=8)
    with torch.no_grad():
        adaptive = linear_margins(logits, labels, rules=LINEAR_RULES)
        again = margins_with(slopes, logits, labels, rules=LINEAR_RULES)
        assert torch.equal(again, found)
        assert (found >= adaptive - 1e-12).all()
        assert (found - adaptive).max() > 1e-6
        points = box.center + box.radius * (2 * torch.rand(500, *x.shape, **DOUBLE) - 1).sign()
        values = net(points.flatten(0, 1)).view(500, 3, 5)
        for image, label in enumerate(labels.tolist()):
            rivals = [j for j in range(5) if j != label]
            assert ((values[:, image, label, None] - values[:, image, rivals]) >= found[image]).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (3, 2), "padding": (0, 2), "dilation": (1, 2)},
        {"groups": 2, "stride": 2},
        {"padding": "same"},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_and_dense_layers_go_back_as_by_their_gradients(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4 // options.get("groups", 1), 3, 3, generator=generator, dtype=dtype)
    bias = torch.randn(6, generator=generator, dtype=dtype)
    x = torch.rand(2, 4, 9, 8, generator=generator, dtype=dtype).contiguous(memory_format=torch.channels_last)
    by_gradient = {**LINEAR_RULES, F.conv2d: affine, F.linear: affine}
    for offset in (bias, None):
        convolved = F.relu(F.conv2d(with_steps(input_interval(x, 0.1)), weight, offset, **options)).flatten(1)
        dense = torch.randn(3, convolved.shape[1], generator=generator, dtype=dtype)
        result = F.linear(convolved, dense, None if offset is None else bias[:3])
        rows = torch.randn(5, 2, 3, generator=generator, dtype=dtype)
        found, expected = (lower_bounds(result, rows, rules=rules) for rules in (LINEAR_RULES, by_gradient))
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance)
