"""What once gave, or could have given, a proof of something untrue: each is refused, or bounded rightly."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trapped import DOUBLE, Function, linear, number

from hf_warmup import certify
from hf_warmup.bounds import UnsupportedOperation, input_interval, margins, propagate
from hf_warmup.bounds.linear import LINEAR_RULES, linear_margins, refiner, with_steps
from hf_warmup.certified import pgd


ROUNDOFF = 2.0**-53


def pool(x: Any, *arguments: Any, **named: Any) -> Any:
    return F.avg_pool2d(x[:, :, None, None], *arguments, **named).flatten(1)


def keep(change: Callable[[Any], Any]) -> Callable[[Any, nn.Module], Any]:
    """Change a tensor in place and go on with an alias of it."""

    def function(x: Any, last: nn.Module) -> Any:
        x = x + 0.0
        alias = x[:, :]
        change(x)
        return last(alias)

    return function


def grow(x: Any) -> None:
    x += 0.5


def halve(x: Any) -> None:
    x /= 2.0


@pytest.mark.parametrize(
    "change",
    [
        grow,
        halve,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.silu(x, inplace=True),
        lambda x: F.leaky_relu(x, 0.1, inplace=True),
        lambda x: F.hardtanh(x, 0.0, 0.2, inplace=True),
    ],
)
def test_what_was_changed_in_place_is_not_used_again(change: Callable[[Any], Any]) -> None:
    model = Function(keep(change)).eval()
    with pytest.raises(UnsupportedOperation, match="after an in-place operation"):
        certify(model, number([0.5]), torch.tensor([0]), eps=0.1)


def test_in_place_operations_whose_result_goes_on_are_fine() -> None:
    def function(x: Any, last: nn.Module) -> Any:
        x = last(x)
        x += 1.0
        both = torch.cat([x, -x], 1)
        F.relu(both, inplace=True)
        return x - 0.5

    bounds = propagate(Function(function), input_interval(number([0.5]), 0.1))
    assert bounds.lower[0].tolist() == pytest.approx([1.0, 0.5])
    relu = nn.Sequential(linear([[1.0], [-1.0]], [0.0, 0.0]), nn.ReLU(inplace=True), linear([[1.0, 0.0]], [0.0]))
    assert propagate(relu, input_interval(number([0.5]), 0.1)).upper.item() == pytest.approx(0.6)
    with pytest.raises(UnsupportedOperation, match="then changed in place"):
        propagate(
            Function(lambda x, last: (y := last(x), F.relu(y, inplace=True))[0]), input_interval(number([0.5]), 0.1)
        )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, last: last(x) + (x == 0) * torch.tensor([0.0, 100.0], dtype=x.dtype), "eq"),
        (lambda x, last: last(x) + (x != 0) * 1.0, "ne"),
        (lambda x, last: last(x if F.relu(x - 0.5) else x * 0.0), "branch that depends on an interval"),
        (lambda x, last: last(x > 0), "gt"),
        (lambda x, last: last(pool(x, 1, divisor_override=-4)), "divisor_override"),
        (lambda x, last: last(pool(x, 1, 1, 0, False, True, -4)), "divisor_override"),
        (lambda x, last: last(x - x.mean(-1, dtype=torch.float16, keepdim=True).to(x.dtype)), "loses precision"),
        (lambda x, last: last(torch.softmax(x, -1, torch.float16).to(x.dtype)), "loses precision"),
        (lambda x, last: last(x.softmax(-1, torch.float16).to(x.dtype)), "loses precision"),
        (lambda x, last: last(F.batch_norm(x, None, None, training=True)), "statistics of the batch"),
    ],
)  # fmt: skip
def test_what_is_no_function_with_a_rule_raises(function: Callable[[Any, nn.Module], Any], message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message):
        certify(Function(function).eval(), number([0.5, 0.25]), torch.tensor([0, 0]), eps=0.1)


def test_batch_normalization_without_running_statistics_is_refused_in_eval_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1, track_running_stats=False, affine=False), nn.Linear(1, 2)).eval()
    with pytest.raises(ValueError, match="without running statistics"):
        certify(model, torch.tensor([[0.9], [0.5], [0.1]]), torch.tensor([0, 0, 1]), eps=0.05)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, last: last(x + 10.0 if isinstance(x, Tensor) else x),
        lambda x, last: last(x - x.mean(0, keepdim=True)),
        lambda x, last: last(x + torch.rand(1, dtype=x.dtype)),
    ],
)
def test_what_was_bounded_must_be_what_the_model_computes(function: Callable[[Any, nn.Module], Any]) -> None:
    with pytest.raises(ValueError, match="not a function of the image alone"):
        certify(Function(function).eval(), number([0.5, 0.9, 0.1]), torch.tensor([0, 0, 0]), eps=0.01)


def test_options_of_interpolate_are_kept() -> None:
    upsample = nn.Upsample(scale_factor=1.3, recompute_scale_factor=True)
    pixels = torch.tensor([[[0.9, 0.9, 0.1]]], dtype=DOUBLE)
    assert torch.equal(upsample(input_interval(pixels, 0.0)).center, upsample(pixels))


def test_softmax_of_scores_far_apart() -> None:
    model = nn.Sequential(
        linear([[1000.0], [0.0], [0.0]], [-255.8, -0.5, 0.0]),
        nn.Softmax(-1),
        linear([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [0.55, 0.0]),
    ).eval()
    pixels = number([0.5])
    assert pgd(model, pixels, torch.tensor([0]), 0.5, restarts=5).broken.all()
    assert not certify(model, pixels, torch.tensor([0]), eps="1/2").verified.any()
    scores = torch.tensor([[0.0, 800.0, -800.0]], dtype=DOUBLE, requires_grad=True)
    bounds = F.softmax(input_interval(scores, 1.0, lowest=-1e9, highest=1e9), -1)
    (bounds.lower.sum() + bounds.upper.sum()).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_tail_of_gelu_is_within_its_bounds() -> None:
    x = torch.tensor([-5.0, -9.0, -12.0], dtype=DOUBLE)
    exact = [v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.tolist()]
    bounds = F.gelu(input_interval(x, 0.0, lowest=-20.0, rounding=ROUNDOFF))
    for low, value, high in zip(bounds.lower.tolist(), exact, bounds.upper.tolist(), strict=True):
        assert low <= value * (1 + 1e-12)
        assert value * (1 - 1e-12) <= high
    assert bounds.lower[1] < -1e-18, "gelu(-9) is not 0, as which float64 computes it"


def test_layer_norm_of_numbers_whose_squares_overflow() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]], dtype=DOUBLE)
    for scale in (1e200, 1e-170):
        box = input_interval(x * scale, 0.0, lowest=0.0, highest=1e300, rounding=ROUNDOFF)
        bounds = F.layer_norm(box, (3,), eps=0.0)
        exact = F.layer_norm(x, (3,), eps=0.0)
        assert (bounds.lower <= exact).all()
        assert (exact <= bounds.upper).all()


def test_rounding_of_a_pool_counts_all_its_elements() -> None:
    def function(x: Any, last: nn.Module) -> Any:
        return last(F.avg_pool2d(x.flatten(0, 1), 200).flatten(1))

    model = Function(function, linear([[1.0], [0.0]], [0.0, 0.09999999999996])).eval()
    pixels = torch.full((1, 1, 200, 200), 0.1, dtype=DOUBLE)
    assert not certify(model, pixels, torch.tensor([1]), eps=0).verified.any()


def test_terms_that_cancel_are_paid_for_after_bounds_on_their_sum_were_narrowed() -> None:
    # Units come twice and their large weights cancel: linear bounds see that, but the weights' products are rounded.
    unit, spread = 2.0**-24, torch.cartesian_prod(*[torch.tensor([-1e-3, 1e-3], dtype=DOUBLE)] * 3)
    for seed in range(30):
        torch.manual_seed(seed)
        first, middle, last = nn.Linear(3, 16), nn.Linear(16, 8), nn.Linear(8, 2)
        with torch.no_grad():
            first.weight[8:], first.bias[8:] = first.weight[:8], first.bias[:8].clone()
            first.bias += 3.0
            across, along, mix = torch.randn(8), torch.randn(8), torch.randn(8)
            large = 1e3 * across[:, None] * torch.cat([along, -along])
            middle.weight.copy_(large + 0.01 * torch.randn(8, 16))
            middle.bias.fill_(3.0)
            last.weight.zero_()
            last.weight[0] = mix - across * (mix @ across) / (across @ across)
            last.bias.zero_()
            model, pixels = nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last), torch.rand(1, 3) * 0.5 + 0.25
            box = with_steps(input_interval(pixels, 1e-3, rounding=unit), refine=refiner(LINEAR_RULES))
            found = linear_margins(propagate(model, box), torch.tensor([0]), rules=LINEAR_RULES)
            reached = model.double()(pixels.double() + spread * (1 - 1e-6))
        assert (found <= (reached[:, 0] - reached[:, 1]).min()).all(), seed


@pytest.mark.parametrize("images", [1, 2])
def test_a_number_by_an_interval_is_no_affine_map(images: int) -> None:
    model = Function(lambda x, last: last(F.relu(1.0 / (x * x + 1.0))))
    box, labels = input_interval(number([0.5, 0.9][:images]), 0.1), torch.zeros(images, dtype=torch.long)
    bounds = propagate(model, with_steps(box, refine=refiner(LINEAR_RULES)))
    found = linear_margins(bounds, labels, rules=LINEAR_RULES)
    assert (found >= margins(propagate(model, box), labels) - 1e-12).all(), "and no bound is lost to it"


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
def test_margins_of_large_heads_are_bounded_a_few_images_at_a_time(
    rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
    head.double()
    images, labels = torch.rand(7, 3, 2, 2, dtype=torch.float64), torch.arange(7) % 5
    with torch.no_grad():
        box = input_interval(images, 0.01, rounding=rounding)
        whole = margins(propagate(head, box), labels)
        # Not by its path, where the function of that name is found.
        module, asked = sys.modules["hf_warmup.bounds.margins"], []
        merged = module._merged
        monkeypatch.setattr(module, "_MOST_WEIGHTS", 2 * 5 * 16)
        monkeypatch.setattr(
            module,
            "_merged",
            lambda *given: asked.append(len(given[2])) or merged(*given),
        )
        parts = margins(propagate(head, box), labels)
    assert asked == [2, 2, 2, 1]
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=1e-15)
