"""Edges of linear bounds: softmax at the end, detached values, images beside each other, and what has no rule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear_nets import DOUBLE, UNIT, two_layers
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.bounds.linear import (
    LINEAR_RULES,
    linear_margins,
    lower_bounds,
    refiner,
    with_steps,
)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - 0.9 * x[:1],
        lambda x: x.transpose(0, 1).relu().transpose(0, 1) + x.transpose(0, 1),
        lambda x: torch.cat([x[1:], x[:1]]),
        lambda x: x.permute(1, 0).reshape(3, 3),
    ],
)
def test_rows_never_cross_images(mix: Callable[[Any], Any]) -> None:
    x = torch.rand(3, 3, **DOUBLE)
    box = input_interval(x, 0.1)
    rows = torch.randn(4, 3, 3, **DOUBLE)
    with torch.no_grad():
        unrelaxed: set[str] = set()
        lower = lower_bounds(mix(with_steps(box)), rows, rules=LINEAR_RULES, unrelaxed=unrelaxed)
        assert unrelaxed
        for draw in range(300):
            value = mix(box.center + box.radius * (2 * torch.rand(3, 3, **DOUBLE) - 1).sign())
            assert ((rows * value).sum(2) >= lower - 1e-12).all(), draw


def test_what_has_no_rule_is_named_and_taken_at_its_interval() -> None:
    x = torch.randn(2, 3, 6, **DOUBLE)
    with torch.no_grad():
        box = input_interval(x, 0.1, lowest=-9.0, highest=9.0)
        unrelaxed: set[str] = set()
        found = F.gelu(with_steps(box)) * 2.0
        rows = torch.ones(1, 2, 3, 6, **DOUBLE)
        lower = lower_bounds(found, rows, rules=LINEAR_RULES, unrelaxed=unrelaxed)
        assert unrelaxed == {"gelu"}
        assert lower[0] == pytest.approx((F.gelu(box) * 2.0).lower.flatten(1).sum(1), rel=1e-12)


def test_an_in_place_activation_still_spends_its_input() -> None:
    from hf_warmup.bounds import UnsupportedOperation

    x = with_steps(input_interval(torch.rand(1, 4, **DOUBLE), 0.3), refine=refiner(LINEAR_RULES)) * 2.0 - 1.0
    with torch.no_grad():
        F.relu(x, inplace=True)
        with pytest.raises(UnsupportedOperation, match="in-place"):
            x + 1.0


class Ending(nn.Module):
    def __init__(self, last: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net, self.last = two_layers(), last

    def forward(self, x: Any) -> Any:
        return self.last(self.net(x))


def test_softmax_and_log_softmax_keep_the_leads_of_logits() -> None:
    box = input_interval(torch.tensor([[0.5, 0.2], [0.1, 0.9]], **DOUBLE), 0.1, rounding=UNIT)
    labels = torch.tensor([0, 1])

    def leads(last: Callable[[Any], Any]) -> Tensor:
        unrelaxed: set[str] = set()
        with torch.no_grad():
            logits = propagate(Ending(last), with_steps(box))
            found = linear_margins(logits, labels, rules=LINEAR_RULES, unrelaxed=unrelaxed)
        assert unrelaxed == set()
        return found

    plain = leads(lambda x: x)
    assert bool((plain > 0).any())
    assert bool((plain < 0).any())
    assert torch.allclose(leads(lambda x: F.log_softmax(x, 1)), plain, rtol=1e-12)
    probabilities = leads(lambda x: F.softmax(x, -1))
    assert torch.equal(probabilities > 0, plain > 0)
    points = box.center + box.radius * (2 * torch.rand(500, 2, 2, **DOUBLE) - 1).sign()
    with torch.no_grad():
        reached = F.softmax(two_layers()(points), -1)
    assert bool((reached[:, 0, :1] - reached[:, 0, 1:] >= probabilities[0]).all())
    assert bool((reached[:, 1, 1:2] - reached[:, 1, [0, 2]] >= probabilities[1]).all())


def test_log_softmax_has_no_lines_but_for_differences() -> None:
    box = input_interval(torch.tensor([[0.5, 0.2, 0.3]], **DOUBLE), 0.1)
    result = F.log_softmax(with_steps(box), 1)
    for rows, relaxed in (([[1.0, -1.0, 0.0]], True), ([[1.0, 0.0, 0.0]], False), ([[0.1, 0.2, -0.3]], False)):
        unrelaxed: set[str] = set()
        lower_bounds(result, torch.tensor([rows], **DOUBLE), rules=LINEAR_RULES, unrelaxed=unrelaxed)
        assert (unrelaxed == set()) == relaxed


def test_detached_is_no_linear_map() -> None:
    """Its gradient is zero, its matrix is not."""
    assert torch.Tensor.detach not in LINEAR_RULES
    box = input_interval(torch.tensor([[0.5, 0.2]], **DOUBLE), 0.1)
    found = lower_bounds(with_steps(box).detach(), torch.tensor([[[1.0, 1.0]]], **DOUBLE), rules=LINEAR_RULES)
    assert found.item() == pytest.approx(0.5)
