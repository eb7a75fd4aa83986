"""Rules that are exact are exact, and what changes nothing about logits costs no margin."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, UnsupportedOperation, input_interval, margins


ULP = 2.0**-53


def box(low: Any, high: Any) -> Interval:
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
    return Interval((low + high) / 2, (low + high) / 2, (high - low) / 2)


@pytest.mark.parametrize(("a", "b"), [((0, 2), (0, 2)), ((-1, 3), (0, 1)), ((1, 3), (2, 4)), ((-5, -2), (-1, 4))])
def test_products_are_those_of_the_corners(a: tuple[int, int], b: tuple[int, int]) -> None:
    corners = [x * y for x in a for y in b]
    for product in (box(*a) * box(*b), (box([[a[0]]], [[a[1]]]) @ box([[b[0]]], [[b[1]]]))):
        assert (product.lower.item(), product.upper.item()) == (min(corners), max(corners))


def test_squares_are_known_as_squares() -> None:
    x = box([-1.0, 2.0, -3.0], [1.0, 3.0, -2.0])
    square = x * x
    assert square.lower.tolist() == [0, 4, 4]
    assert square.upper.tolist() == [1, 9, 9]


def test_a_divisor_may_be_an_interval_away_from_zero() -> None:
    quotient = box(1.0, 2.0) / box(-4.0, -2.0)
    assert (quotient.lower.item(), quotient.upper.item()) == (-1.0, -0.25)
    reaching = Interval(
        *[torch.tensor(x, dtype=torch.float64) for x in ([1.0, 3.0], [1.0, 3.0], [1.0, 1.0])], rounding=ULP
    )
    for call in (lambda x: box(1.0, 2.0) / x, torch.log, torch.rsqrt, lambda x: x**-1):
        with pytest.warns(RuntimeWarning, match="not defined on all"):
            undefined = call(reaching)
        # Nothing brings a number back for the first; the other is bounded as ever.
        after = (F.relu(undefined) * 0.0).clamp(-1, 1).sigmoid().square().softmax(-1)
        for end in (undefined.lower, undefined.upper):
            assert end.isnan().tolist() == [True, False]
        assert after.upper.isnan().all()


@pytest.mark.parametrize(
    ("function", "place"),
    [(F.gelu, -0.7517916), (F.silu, -1.2784645), (lambda x: F.gelu(x, approximate="tanh"), -0.7524614)],
)
def test_nothing_is_lost_at_a_minimum(function: Callable[[Any], Any], place: float) -> None:
    point, near = function(box(place, place)), function(box(place - 1e-5, place + 1e-5))
    assert point.radius.item() < 1e-15
    assert 0 < near.radius.item() < 1e-10
    assert near.lower <= function(torch.linspace(place - 1e-5, place + 1e-5, 101, dtype=torch.float64)).min() + 1e-16


@pytest.mark.parametrize("layer", [nn.Hardsigmoid(inplace=True), nn.Hardswish(inplace=True)])
def test_activations_in_place_leave_what_they_were_given(layer: nn.Module) -> None:
    x = box([-1.0, 2.0], [1.0, 4.0])
    before = x.clean.clone()
    layer(x)
    assert torch.equal(x.clean, before)
    with pytest.raises(UnsupportedOperation, match="in-place"):
        x + 1


AFTER: dict[str, tuple[float, Callable[[Any], Any]]] = {
    "contiguous": (1, lambda z: z.contiguous()),
    "dropout": (1, lambda z: F.dropout(z, 0.1, training=False)),
    "flatten": (1, lambda z: z.flatten(1)),
    "reshape": (1, lambda z: z.reshape(len(z), -1)),
    "to": (1, lambda z: z.to(z.dtype)),
    "all classes": (1, lambda z: z[:, :4]),
    "half": (2, lambda z: z / 2),
    "triple": (1 / 3, lambda z: 3 * z),
    "log_softmax": (1, lambda z: F.log_softmax(z, -1)),
}


def logits(rounding: float) -> tuple[Interval, Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(6, 4).double().requires_grad_(False)
    return model(input_interval(torch.rand(5, 6, dtype=torch.float64), 0.1, rounding=rounding)), torch.arange(5) % 4


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
@pytest.mark.parametrize("name", AFTER)
def test_what_changes_no_difference_of_logits_costs_no_margin(name: str, rounding: float) -> None:
    factor, after = AFTER[name]
    z, labels = logits(rounding)
    assert (margins(after(z), labels) * factor).flatten().tolist() == pytest.approx(
        margins(z, labels).flatten().tolist(), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(
    "call", [lambda z: -1.0 * z, lambda z: z * z, lambda z: z.flip(1), lambda z: z[:, [1, 0, 2, 3]]]
)
def test_what_changes_the_order_of_logits_is_not_merged(call: Callable[[Any], Any]) -> None:
    z, labels = logits(0.0)
    after = call(z)
    plain = after.lower.gather(1, labels[:, None]) - after.upper
    others = torch.ones_like(plain, dtype=torch.bool).scatter(1, labels[:, None], value=False)
    assert torch.equal(margins(after, labels).flatten(), plain[others])


def test_the_logarithm_of_a_second_softmax_is_bounded_as_it_is() -> None:
    z, labels = logits(0.0)
    found = margins(F.log_softmax(z.softmax(-1), -1), labels)
    truth = z.clean.softmax(-1).log_softmax(-1)
    others = torch.ones_like(truth, dtype=torch.bool).scatter(1, labels[:, None], value=False)
    assert (found <= (truth.gather(1, labels[:, None]) - truth)[others].view(5, 3)).all()


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
def test_probabilities_are_verified_where_their_logits_are(rounding: float) -> None:
    z, labels = logits(rounding)
    found = margins(z.softmax(-1), labels)
    assert torch.equal(found > 0, margins(z, labels) > 0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        source = z.provenance
        x = source.input.center + source.input.radius * (2 * torch.rand(5, 6, generator=generator).double() - 1).sign()
        p = F.linear(x, source.weight, source.bias).softmax(-1)
        others = torch.ones_like(p, dtype=torch.bool).scatter(1, labels[:, None], value=False)
        assert ((p.gather(1, labels[:, None]) - p)[others].view(5, 3) >= found - 1e-14).all()


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
@pytest.mark.parametrize("value", [-1e4, torch.finfo(torch.float64).min, float("-inf")])
def test_an_additive_mask_leaves_the_width_of_what_it_leaves(value: float, rounding: float) -> None:
    x = input_interval(torch.rand(2, 6, 4, dtype=torch.float64), 1e-6, rounding=rounding)
    mask = torch.full((6, 6), value, dtype=torch.float64).triu(1)
    bounds = (x @ x.transpose(1, 2) + mask).softmax(-1) @ x
    assert bounds.radius.max() < 2e-5
    assert ((bounds.clean - bounds.center).abs() <= bounds.radius + 1e-15).all()


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
def test_attention_takes_masks_of_every_kind(rounding: float) -> None:
    x = input_interval(torch.rand(2, 6, 4, dtype=torch.float64), 1e-4, rounding=rounding)
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    added = torch.zeros(6, 6, dtype=torch.float64).masked_fill(~allowed, float("-inf"))
    for options in ({"is_causal": True}, {"attn_mask": allowed}, {"attn_mask": added}):
        bounds = F.scaled_dot_product_attention(x, x, x, **options)
        assert bounds.radius.max() < 2e-3
        for _ in range(50):
            point = x.center + x.radius * (2 * torch.rand(2, 6, 4).double() - 1).sign()
            value = F.scaled_dot_product_attention(point, point, point, **options)
            assert (value >= bounds.lower - 1e-14).all()
            assert (value <= bounds.upper + 1e-14).all()
        # The first place sees itself alone.
        assert bounds.radius[:, 0].max() < 1.1e-4
