"""Worked examples that a reader can follow by hand, in float64 (certified training specification, section 11)."""

import pytest
import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval, input_interval, margins, propagate


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def same(actual: Tensor, expected: object, tolerance: float = 5e-9) -> None:
    torch.testing.assert_close(actual.detach(), tensor(expected), rtol=tolerance, atol=tolerance)


@pytest.fixture
def two_layers() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        model[0].weight.copy_(tensor([[1, -2], [3, 1]]))
        model[0].bias.copy_(tensor([0.1, -0.4]))
        model[2].weight.copy_(tensor([[1, 2], [-1, 0.5], [0.5, -1]]))
        model[2].bias.copy_(tensor([0, 0.1, -0.2]))
    return model


def unclipped(values: object, eps: float) -> Interval:
    return input_interval(tensor(values), eps, lowest=-100, highest=100)


def test_two_layers_with_and_without_elision(two_layers: nn.Module) -> None:
    tape: list[Interval] = []
    x = tensor([[0.5, 0.2]])
    logits = propagate(two_layers, input_interval(x, 0.1, lowest=-9, highest=9, tape=tape))
    same(tape[0].lower, [[-0.1, 0.9]])
    same(tape[0].upper, [[0.5, 1.7]])
    same(logits.clean, [[2.8, 0.55, -1.4]])
    same(logits.lower, [[1.8, 0.05, -1.9]])
    same(logits.upper, [[3.9, 0.95, -0.85]])
    same(margins(logits, torch.tensor([0])), [[1.25, 2.9]])
    same(margins(logits, torch.tensor([1])), [[-3.45, 0.90]])
    separate = margins(Interval(logits.clean, logits.center, logits.radius), torch.tensor([0]))
    same(separate, [[0.85, 2.65]])


def test_larger_radius(two_layers: nn.Module) -> None:
    logits = propagate(two_layers, unclipped([[0.5, 0.2]], 0.3))
    same(margins(logits, torch.tensor([0])), [[0.05, 0.50]])


def test_rounding_costs_next_to_nothing_in_float64(two_layers: nn.Module) -> None:
    x = input_interval(tensor([[0.5, 0.2]]), 0.1, lowest=-9, highest=9, rounding=2.0**-53)
    found = margins(propagate(two_layers, x), torch.tensor([0]))
    assert (found < tensor([[1.25, 2.9]])).all()
    same(found, [[1.25, 2.9]], tolerance=1e-12)


def test_clipping_moves_the_center() -> None:
    x = input_interval(tensor([0.02, 0.5, 0.99]), 8 / 255)
    same(x.lower, [0.0, 0.5 - 8 / 255, 0.99 - 8 / 255])
    same(x.upper, [0.02 + 8 / 255, 0.5 + 8 / 255, 1.0])
    normalized = (x - 0.4914) / 0.2023
    same(normalized.lower, [-2.42906574, -0.11256821, 2.30957712])
    same(normalized.upper, [-2.17512334, 0.19759045, 2.51408799])
    same(normalized.radius[0], 0.12697120)
    same(normalized.center[0], -2.30209454)


@pytest.mark.parametrize(
    ("stride", "padding", "lower", "upper"),
    [
        (1, 0, [0.10, 0.25, 0.55, 0.70], [1.00, 1.15, 1.45, 1.60]),
        (2, 1, [0.20, 0.10, -0.50, 0.70], [0.30, 0.60, -0.20, 1.60]),
    ],
)
def test_convolution(stride: int, padding: int, lower: list[float], upper: list[float]) -> None:
    conv = nn.Conv2d(1, 1, 2, stride=stride, padding=padding).double()
    with torch.no_grad():
        conv.weight.copy_(tensor([[[[1, -1], [2, -0.5]]]]))
        conv.bias.fill_(0.25)
    x = torch.arange(9, dtype=torch.float64).view(1, 1, 3, 3) / 10
    found = conv(input_interval(x, 0.1, lowest=-9, highest=9))
    same(found.lower.flatten(), lower)
    same(found.upper.flatten(), upper)


def test_batch_norm_uses_the_clean_batch_and_moves_its_running_statistics_once() -> None:
    norm = nn.BatchNorm1d(2).double()
    with torch.no_grad():
        norm.weight.copy_(tensor([2, -1]))
        norm.bias.copy_(tensor([0.1, 0.2]))
    clean = tensor([[1, -1], [3, 0], [2, 4]])
    lower, upper = clean - 0.5, clean + tensor([[0.5, 1], [0.5, 0.5], [1, 0.5]])
    x = Interval(clean, (lower + upper) / 2, (upper - lower) / 2)
    found = norm(x)
    same(found.lower, [[-3.57420706, 0.66290955], [1.32473569, 0.43145478], [-1.12473569, -1.42018344]], 2e-8)
    same(found.upper, [[-1.12473569, 1.35727388], [3.77420706, 0.89436433], [2.54947137, -0.95727388]], 2e-8)
    same(norm.running_mean, [0.2, 0.1])
    same(norm.running_var, [1.0, 1.6])
    assert norm.num_batches_tracked == 1
    norm.eval()
    same(norm(x).lower, [[0.699997, 0.27905669], [4.699977, -0.11622678], [2.699987, -3.27849456]], 2e-6)


def test_gradient_flows_through_the_batch_statistics() -> None:
    weight = tensor([[1.0, -2.0]]).requires_grad_()
    norm = nn.BatchNorm1d(1).double()
    x = input_interval(tensor([[1, 0], [0, 1], [2, 1]]), 0.1, lowest=-9, highest=9)
    lower = norm(nn.functional.linear(x, weight)).lower
    same(lower.flatten(), [0.82850719, -1.57683626, 0.02672604], 2e-8)
    loss = lower.relu().sum()
    same(loss, 0.85523323, 2e-8)
    loss.backward()
    same(weight.grad, [[0.27489875, 0.13744663]], 1e-7)


def test_residual_sum_relu_and_mean() -> None:
    first = Interval(tensor([-0.25, 2.5]), tensor([-0.25, 2.5]), tensor([0.75, 0.5]))
    second = Interval(tensor([0.3, -2.5]), tensor([0.3, -2.5]), tensor([0.1, 1.5]))
    total = first + second
    same(total.lower, [-0.8, -2.0])
    same(total.upper, [0.9, 2.0])
    same(total.relu().upper, [0.9, 2.0])
    same(total.relu().lower, [0.0, 0.0])
    same(total.mean().lower, -1.4)
    same(total.mean().upper, 1.45)


@pytest.mark.parametrize("labels", [[3], [-1], [0, 1]])
def test_margins_refuse_labels_that_do_not_fit(two_layers: nn.Module, labels: list[int]) -> None:
    logits = propagate(two_layers, unclipped([[0.5, 0.2]], 0.1))
    with pytest.raises(ValueError, match=r"labels must be 1 class numbers in \[0, 3\)"):
        margins(logits, torch.tensor(labels))
