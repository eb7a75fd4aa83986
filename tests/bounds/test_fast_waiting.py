"""Convolutions that wait until they are asked for: whoever asks gets the plain table's bounds, in any order of use."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import FAST_RULES, RULES, input_interval, propagate
from hf_warmup.bounds.fast.folding import Unbounded
from hf_warmup.bounds.interval import Rules


IMAGES = torch.rand(3, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Uses(nn.Module):
    """Convolution, perhaps a normalization, and then whatever is to be done with the result."""

    def __init__(self, use: Callable[[Tensor], Tensor], *, normalize: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if normalize else nn.Identity()
        if normalize:
            nn.init.uniform_(self.norm.weight, -1.0, 1.0)
            nn.init.uniform_(self.norm.bias)
            self.norm.running_mean.uniform_(-0.5, 0.5)
            self.norm.running_var.uniform_(0.5, 2.0)
        self.use = use

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.use(self.norm(self.conv(pixel_values))).flatten(1)


def flattened_first(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return F.relu(x).flatten(1) - flat


USES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu twice": lambda x: F.relu(x) + F.relu(x),
    "relu, then itself": lambda x: F.relu(x) + x,
    "itself, then relu": lambda x: x * 2.0 + F.relu(x),
    "a view first": flattened_first,
    "relu in place": lambda x: F.relu(x, inplace=True),
    "nothing": lambda x: x,
}


def bounds(model: nn.Module, rules: Rules) -> tuple[Tensor, ...]:
    found = propagate(model, input_interval(IMAGES, 0.1, rules=rules))
    return found.clean, found.center, found.radius


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("use", list(USES))
def test_bounds_are_those_of_the_plain_table(use: str, normalize: bool, gradients: bool, training: bool) -> None:
    model = Uses(USES[use], normalize=normalize).double().train(training)
    with torch.set_grad_enabled(gradients):
        for fast, plain in zip(bounds(model, FAST_RULES), bounds(model, RULES), strict=True):
            torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", ["in place", "data", "loaded"])
def test_changed_weights_change_the_bounds(change: str) -> None:
    model = Uses(F.relu, normalize=True).double().eval()
    with torch.no_grad():
        before = bounds(model, FAST_RULES)
        if change == "in place":
            model.conv.weight.mul_(2.0)
        elif change == "data":
            model.conv.weight.data = model.conv.weight.data * 2.0
        else:
            model.load_state_dict({**model.state_dict(), "conv.weight": model.conv.weight * 2.0})
        after = bounds(model, FAST_RULES)
        for fast, plain, old in zip(after, bounds(model, RULES), before, strict=True):
            torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)
            assert not torch.allclose(fast, old)


@torch.no_grad()
def test_a_copy_is_given_away_only_while_nobody_has_seen_it() -> None:
    model = Uses(F.relu, normalize=True).double().eval()
    box = input_interval(IMAGES, 0.1, rules=FAST_RULES)
    waiting = model.norm(model.conv(box))
    assert isinstance(waiting, Unbounded)
    assert waiting.dim() == 4
    first, second = waiting.only_copy(), waiting.only_copy()
    assert first is not None
    assert second is not None
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
    center = waiting.center
    assert waiting.only_copy() is None
    F.relu(waiting)
    assert torch.equal(waiting.center, first[1])
    assert waiting.center.data_ptr() == center.data_ptr()
    assert torch.equal(box.clean, IMAGES)
