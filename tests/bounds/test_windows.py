"""Windows of maps in place of whole maps: the same bounds, for less; and what they must leave alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear_nets import DOUBLE, UNIT
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, input_interval, propagate
from hf_warmup.bounds.linear import LINEAR_RULES, crown, linear_margins, refiner, with_steps
from hf_warmup.bounds.linear.windows import window_ends


class Residual(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, stride, 1)
        self.two = nn.Conv2d(channels, channels, 3, 1, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.norm(self.two(F.relu(self.one(x)))) + self.shortcut(x))


class Normalized(nn.Module):
    def forward(self, x: Any) -> Any:
        return (x - torch.tensor([0.4, 0.5]).view(1, 2, 1, 1).double()) / 0.25


class TwoPaths(nn.Module):
    """One map taken by an activation and by a convolution, the other added as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return F.relu(self.second(x) + F.relu(x) * 0.5)


NETS: dict[str, Callable[[], list[nn.Module]]] = {
    "plain, strided, normalized": lambda: [
        *(Normalized(), nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()),
    ],
    "residual": lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), Residual(3, 1), Residual(3, 2)],
    "convolutions in a row": lambda: [
        *(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.LeakyReLU(0.1)),
        *(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU()),
    ],
    "other shapes": lambda: [
        *(nn.Conv2d(2, 4, 5, 2, 1), nn.Tanh(), nn.Conv2d(4, 4, 3, 1, 2, dilation=2, groups=2), nn.ReLU6()),
        *(nn.Conv2d(4, 3, (2, 1)), nn.Sigmoid(), nn.Conv2d(3, 2, 3, 1, (1, 0)), nn.ReLU()),
    ],
    "two paths": lambda: [TwoPaths(), nn.Conv2d(3, 2, 3, padding=1), nn.ReLU()],
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(len(name))
    x = torch.rand(2, 2, *((23, 21) if name == "other shapes" else (13, 11)), **DOUBLE)
    body = nn.Sequential(*NETS[name]()).double()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    body.eval()
    with torch.no_grad():
        width = body(x)[0].numel()
    return nn.Sequential(body, nn.Flatten(), nn.Linear(width, 4).double()).eval(), x


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rounding", [0.0, UNIT])
def test_units_get_the_bounds_of_whole_maps(name: str, rounding: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = make(name)
    taken = []

    def compared(layer: Interval, chosen: Tensor, rules: Any, budget: int) -> tuple[Tensor, Tensor] | None:
        # Of every unit, so that whole maps fill no rows with others.
        every = torch.ones_like(chosen)
        found = window_ends(layer, every, rules, 50_000)
        if found is not None:
            taken.append(len(taken))
            expected = crown._whole_ends(layer, every.flatten(1), rules, budget)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        return window_ends(layer, chosen, rules, budget)

    monkeypatch.setattr(crown, "window_ends", compared)
    box = with_steps(input_interval(x, 0.3, rounding=rounding), refine=refiner(LINEAR_RULES))
    with torch.no_grad():
        propagate(net, box)
    assert taken


@pytest.mark.parametrize("name", NETS)
def test_margins_hold_at_corners_and_random_points(name: str) -> None:
    net, x = make(name)
    labels = torch.tensor([0, 3])
    ends = (x - 0.05).clamp(min=0), (x + 0.05).clamp(max=1)
    box = with_steps(input_interval(x, 0.05, rounding=UNIT), refine=refiner(LINEAR_RULES))
    with torch.no_grad():
        lower = linear_margins(propagate(net, box), labels, rules=LINEAR_RULES)
        for seed in range(60):
            part = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)
            logits = net(torch.lerp(*ends, part.round() if seed % 2 else part))
            leads = logits.gather(1, labels[:, None]) - logits
            for own, lead, bound in zip(labels.tolist(), leads, lower, strict=True):
                assert (torch.cat([lead[:own], lead[own + 1 :]]) >= bound).all()


def test_grouping_of_places_changes_nothing_but_the_last_digits() -> None:
    net, x = make("plain, strided, normalized")
    found = []
    for budget in (5_000, 2**22):
        box = with_steps(input_interval(x, 0.05), refine=refiner(LINEAR_RULES, budget=budget))
        with torch.no_grad():
            found.append(linear_margins(propagate(net, box), torch.tensor([0, 3]), rules=LINEAR_RULES))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def mixing(x: Any) -> Any:
    return x.flip(2)


def scaled_by_place(x: Any) -> Any:
    return x * torch.arange(1.0, 12.0, **DOUBLE)


def scaled_by_itself(x: Any) -> Any:
    return x * x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("change", [mixing, scaled_by_place, scaled_by_itself, F.avg_pool2d, F.max_pool2d])
def test_what_sees_more_than_a_window_is_left_to_whole_maps(change: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    first, second = (nn.Conv2d(2, 2, 3, padding=1).double() for _ in range(2))
    box = with_steps(input_interval(torch.rand(2, 2, 13, 11, **DOUBLE), 0.1))
    with torch.no_grad():
        x = first(box)
        x = change(x, 3, 1, 1) if "pool" in change.__name__ else change(x)
        layer = second(F.relu(x))
        assert window_ends(layer, torch.ones(layer.shape, dtype=torch.bool), LINEAR_RULES, 2**22) is None
        plain = second(F.relu(first(box)))
        assert window_ends(plain, torch.ones(plain.shape, dtype=torch.bool), LINEAR_RULES, 2**22) is not None


def test_statistics_of_a_batch_are_no_business_of_windows() -> None:
    torch.manual_seed(0)
    first, norm, second = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1)
    with torch.no_grad():
        layer = second(F.relu(norm(first(with_steps(input_interval(torch.rand(4, 2, 13, 11), 0.1))))))
        assert window_ends(layer, torch.ones(layer.shape, dtype=torch.bool), LINEAR_RULES, 2**22) is None
