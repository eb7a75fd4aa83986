"""Regularizers, loss and initialization against worked numbers (certified training specification, section 11)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hf_warmup.bounds import Interval, input_interval, propagate
from hf_warmup.certified.initialization import _weights_after_residual_sums, ibp_init_, ibp_std
from hf_warmup.certified.objectives import robust_cross_entropy
from hf_warmup.certified.regularizers import relu_balance_loss, tightness_loss


def box(lower: list[float], upper: list[float]) -> Interval:
    low, high = torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)
    return Interval((low + high) / 2, (low + high) / 2, (high - low) / 2)


INPUT = box([-0.1] * 5, [0.1] * 5)
A = box([1, -3, 0.5, -0.2, -2], [2, -1, 1.5, 0.4, -1])
B = box([1, -2, -1], [1.1, -1.9, -0.9])
D = box([0.1, 0.5, -0.3], [0.3, 0.9, 0.2])


def close(actual: Tensor, expected: float, tolerance: float = 1e-8) -> None:
    assert float(actual) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("layers", "tightness", "balance"),
    [
        ([A], 0.64285714, 0.0),
        ([B], 0.0, 0.27586207),
        ([A, B], 0.32142857, 0.13793103),
        ([A, B, D], 0.21428571, 0.09195402),
    ],
)
def test_worked_layers(layers: list[Interval], tightness: float, balance: float) -> None:
    close(tightness_loss(layers, INPUT), tightness)
    close(relu_balance_loss(layers), balance)


@pytest.mark.parametrize(
    "layer",
    [
        box([-0.1, -0.2], [0.1, 0.2]),  # all unstable
        box([-0.3, -0.2, -0.1], [-0.1, -0.1, 0.3]),  # inactive and unstable only
        box([0.1, 0.2], [0.2, 0.3]),  # active only
        box([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_degenerate_layers_count_nothing_and_have_a_finite_gradient(layer: Interval) -> None:
    center = layer.center.clone().requires_grad_()
    radius = layer.radius.clone().requires_grad_()
    tape = [Interval(layer.clean, center, radius)]
    loss = relu_balance_loss(tape)
    assert float(loss.detach()) == 0.0
    (loss + tightness_loss(tape, INPUT)).backward()
    assert torch.isfinite(center.grad).all()
    assert torch.isfinite(radius.grad).all()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 3)), min_size=1, max_size=8))
def test_ranges_and_finite_gradients_everywhere(units: list[tuple[float, float]]) -> None:
    center = torch.tensor([c for c, _ in units], dtype=torch.float64, requires_grad=True)
    radius = torch.tensor([r for _, r in units], dtype=torch.float64, requires_grad=True)
    tape = [Interval(center.detach(), center, radius)]
    tightness, balance = tightness_loss(tape, INPUT), relu_balance_loss(tape)
    assert 0 <= float(tightness.detach()) <= 1
    assert 0 <= float(balance.detach()) <= 2
    (tightness + balance).backward()
    assert torch.isfinite(center.grad).all()
    assert torch.isfinite(radius.grad).all()


def test_balance_does_not_care_which_side_is_larger() -> None:
    mirrored = Interval(-B.clean, -B.center, B.radius)
    close(relu_balance_loss([mirrored]), float(relu_balance_loss([B])))


def test_an_empty_tape_is_an_error() -> None:
    with pytest.raises(ValueError, match="tape is empty"):
        tightness_loss([], INPUT)
    with pytest.raises(ValueError, match="tape is empty"):
        relu_balance_loss([])


def test_robust_loss() -> None:
    for margins, expected in (
        ([1.25, 2.9], 0.29380928),
        ([0.85, 2.65], 0.40417504),
        ([-3.45, 0.90], 3.49368425),
        ([0.05, 0.50], 0.93913191),
    ):
        close(robust_cross_entropy(torch.tensor([margins], dtype=torch.float64)), expected)
    assert math.isfinite(float(robust_cross_entropy(torch.tensor([[-1e4, -1e4]]))))


@pytest.mark.parametrize(
    ("fan_in", "expected"),
    [(9, 0.2785142527), (27, 0.0928380842), (576, 0.0043517852), (1152, 0.0021758926), (32768, 0.0000764962)],
)
def test_standard_deviation(fan_in: int, expected: float) -> None:
    assert ibp_std(torch.empty(4, fan_in)) == pytest.approx(expected, rel=1e-6)


class Residual(nn.Module):
    """Two post-activation blocks, then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 8, 1)
        self.dense = nn.Linear(8 * 64, 16)
        self.classifier = nn.Linear(16, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.first(x) + x)
        x = self.relu(self.second(x) + self.shortcut(x))
        return self.classifier(self.relu(self.dense(x.flatten(1))))


def test_layers_behind_a_residual_sum_are_halved_and_the_classifier_left() -> None:
    torch.manual_seed(0)
    model = Residual()
    found = _weights_after_residual_sums(model, torch.zeros(1, 1, 8, 8))
    assert {id(w) for w in found} == {id(model.second.weight), id(model.shortcut.weight)}
    before = model.classifier.weight.clone(), model.stem.bias.clone()
    ibp_init_(model, torch.zeros(1, 1, 8, 8))
    assert torch.equal(model.classifier.weight, before[0])
    assert torch.equal(model.stem.bias, before[1])
    assert float(model.dense.weight.detach().std()) == pytest.approx(ibp_std(model.dense.weight), rel=0.05)
    assert float(model.second.weight.detach().std()) == pytest.approx(ibp_std(model.second.weight) / 2, rel=0.1)
    with pytest.raises(ValueError, match="besides the classifier"):
        ibp_init_(nn.Linear(2, 2), torch.zeros(1, 2))


def test_bounds_keep_their_width_from_layer_to_layer() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(512, 512), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(512, 10)).double()
    x = torch.rand(8, 512, dtype=torch.float64)

    def widths() -> list[float]:
        tape: list[Interval] = []
        propagate(model, input_interval(x, 1e-6, lowest=-1, highest=2, tape=tape))
        return [float(layer.radius.detach().mean() / 1e-6) for layer in tape]

    default = widths()
    ibp_init_(model, x)
    # The first layer has no ReLU before it, so its gain is 2; the others' is 1.
    assert widths() == pytest.approx([2.0] * 6, rel=0.25)
    assert default[-1] > 100 * widths()[-1]
