"""A model is certified only as what it computes: of each image alone, of plain tensors, from finite numbers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from hf_warmup import certify
from hf_warmup.bounds import input_interval
from hf_warmup.certified import Attack, Certificate, Verifier, consistency, evaluation
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.data.images import Images


class Head(nn.Module):
    """A linear classifier behind a function of the batch."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.function, self.last = function, nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.last(self.function(x))


def rows(x: Any) -> Tensor:
    return torch.arange(len(x), dtype=x.dtype)[:, None]


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - 0.9 * x[:1],
        lambda x: x - 0.9 * x[-1:],
        lambda x: x - 0.5 * x.mean(0, keepdim=True),
        lambda x: x * (1.0 + 0.1 * len(x)),
        lambda x: x + 0.1 * rows(x),
        lambda x: x if len(x) > 1 else x * 0.5,
        lambda x: x + 0.5 * torch.cat([x[1:], x[:1]]),
    ],
)
def test_an_image_is_proven_without_its_company(function: Callable[[Any], Any], batch_size: int, count: int) -> None:
    model = Head(function).eval()
    images, labels = torch.rand(count, 8), torch.zeros(count, dtype=torch.long)
    with pytest.raises(ValueError, match="not a function of the image alone"):
        certify(model, images, labels, eps=0.001, batch_size=batch_size)


def test_every_image_is_compared() -> None:
    # One image among many, of which the last row of a batch leans on the first.
    model = Head(lambda x: torch.cat([x[:-1], x[-1:] - 0.5 * x[:1]]) if len(x) > 3 else x).eval()
    images = torch.rand(60, 8)
    labels = model(images).argmax(1)
    with pytest.raises(ValueError, match="not a function of the image alone"):
        certify(model, images, labels, eps=1e-6, batch_size=20)


def off_center(x: Any) -> Any:
    """Nothing at the images of the test, and more the farther away."""
    return x + 30.0 * (x - 0.5) if isinstance(x, Tensor) else x


def test_code_that_asks_for_tensors_is_found_away_from_the_images() -> None:
    images, labels = torch.full((4, 8), 0.5), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"lie outside of their bounds"):
        certify(Head(off_center).eval(), images, labels, eps=0.05)
    hooked = Head(lambda x: x).eval()
    hooked.register_forward_hook(lambda module, args, output: output * 2.0 if torch.is_tensor(output) else None)
    with pytest.raises(ValueError, match="not a function of the image alone"):
        certify(hooked, images, labels, eps=0.05)
    early = Head(lambda x: x).eval()
    early.last.register_forward_pre_hook(lambda module, args: (off_center(args[0]),))
    with pytest.raises(ValueError, match="outside of their bounds|gives plain tensors other values"):
        certify(early, images, labels, eps=0.05)


class Wide(nn.Module):
    """Its first layer's outputs hide behind others, far wider than what they may move."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        nn.init.eye_(self.first.weight)
        nn.init.zeros_(self.first.bias)
        self.first.register_forward_hook(lambda module, args, output: off_center(output))

    def forward(self, x: Any) -> Any:
        hidden = self.first(x)
        return self.last(hidden) + 1000.0 * (self.last(x) - self.last(x))


CENTERED, FIRST = torch.full((4, 8), 0.5), torch.zeros(4, dtype=torch.long)


def test_outputs_of_layers_do_not_hide_behind_wide_ones() -> None:
    with pytest.raises(ValueError, match="module 'first' gives plain tensors other values"):
        certify(Wide().eval(), CENTERED, FIRST, eps=0.05)


def test_every_try_compares_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the last points lie away from the center.
    real, tries = consistency._points, list[Tensor]()

    def points(box: Any, *rest: Any, **options: Any) -> Tensor:
        tries.append(real(box, *rest, **options) if len(tries) == 2 else box.clean[: 1 if len(rest) > 1 else None])
        return tries[-1]

    monkeypatch.setattr(consistency, "_points", points)
    with pytest.raises(ValueError, match="module 'first' gives plain tensors other values"):
        certify(Wide().eval(), CENTERED, FIRST, eps=0.05)
    assert len(tries) == 3


def test_layers_are_compared_once_and_again_where_boxes_reach_farther() -> None:
    verifier = Verifier(Wide().eval())
    assert verifier.verified_at(CENTERED, FIRST, torch.zeros(4, dtype=torch.float64)).shape == (4,)
    verifier.certify(CENTERED, FIRST, lower=CENTERED, upper=CENTERED)
    with pytest.raises(ValueError, match="module 'first' gives plain tensors other values"):
        verifier.certify(CENTERED, FIRST, eps=0.05)


def passes_of(model: nn.Module, call: Callable[[], Any]) -> int:
    """How often a model, or a copy of it, is called."""
    passes = list[int]()
    handle = model.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    call()
    handle.remove()
    return len(passes)


def test_what_was_compared_is_not_compared_again() -> None:
    model = Head(lambda x: x).eval()
    images = torch.rand(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images).argmax(1)
    for count in (1, 2):
        x, y = images[:count], labels[:count]
        # Bounds in both precisions, two passes beside each image, two away from it, and the clean answer.
        assert passes_of(model, lambda x=x, y=y: certify(model, x, y, eps=1e-4, method="ibp")) == 7  # type: ignore[misc]

    # Of a second batch every image is compared, and of layers nothing that was.
    def twice() -> None:
        verifier = Verifier(model)
        for x in (images, images.flip(0)):
            assert verifier.certify(x, labels, eps=1e-4).margin.shape == (2,)

    assert passes_of(model, twice) == 6 + 4


def test_functions_that_work_in_place_are_no_difference() -> None:
    class Rectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            hidden = self.last(x)
            hidden.relu_()
            return hidden

    torch.manual_seed(0)
    model, images = nn.Sequential(Rectified(), nn.Linear(3, 3)).eval(), torch.rand(4, 8)
    with torch.no_grad():
        labels = model(images).argmax(1)
    assert certify(model, images, labels, eps=1e-5).verified.all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "2.bias"])
def test_numbers_that_are_not_finite_are_named(name: str, value: float) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        {**dict(model.named_parameters()), **dict(model.named_buffers())}[name].flatten()[1] = value
    with pytest.raises(ValueError, match=f"{name} holds numbers that are not finite"):
        Verifier(model)


def test_infinite_numbers_of_no_buffer_prove_nothing() -> None:
    class Infinite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)
            self.weight = [torch.tensor([[-math.inf, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)]

        def forward(self, x: Any) -> Any:
            return self.last(torch.softmax(nn.functional.linear(x.double(), self.weight[0]), -1))

    model = Infinite().double().eval()
    nn.init.zeros_(model.last.weight)
    model.last.bias.data = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    images = torch.tensor([[0.05, 0.5]], dtype=torch.float64)
    assert not certify(model, images, torch.tensor([1]), eps=0.1).verified.any()


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (parametrizations.weight_norm, "remove_parametrizations"),
        (parametrizations.orthogonal, "remove_parametrizations"),
        (spectral_norm, "remove_spectral_norm"),
    ],
)
def test_weights_that_are_computed_in_each_pass_are_refused(change: Callable[[Any], Any], remedy: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), change(nn.Linear(4, 4))).eval()
    with pytest.raises(ValueError, match=f"2 computes its weights .*{remedy}"):
        certify(model, torch.rand(2, 4), torch.tensor([0, 1]), eps=0.01)


def test_weight_normalization_by_hooks_is_refused() -> None:
    with pytest.warns(FutureWarning):
        model = nn.Sequential(weight_norm(nn.Linear(4, 4))).eval()
    with pytest.raises(ValueError, match="remove_weight_norm"):
        Verifier(model)


def attacked(model: nn.Module, gap: float, monkeypatch: pytest.MonkeyPatch) -> evaluation.Assessment:
    """Judge images that are said to be proven; the attack moves them by a gap beyond their radius."""
    images = Images(torch.full((3, 1, 1, 2), 128, dtype=torch.uint8), torch.tensor([0, 0, 0]), 256)

    def pgd(model: nn.Module, pixel_values: Tensor, labels: Tensor, eps: float, **options: Any) -> Attack:
        return Attack(pixel_values + eps + gap, torch.tensor([False, True, False]))

    def proven(self: Verifier, pixel_values: Tensor, labels: Tensor, **options: Any) -> Certificate:
        margin = torch.ones(len(labels), dtype=torch.float64)
        return Certificate(margin, margin > 0, 0.1)

    monkeypatch.setattr(evaluation, "pgd", pgd)
    monkeypatch.setattr(Verifier, "certify", proven)
    return evaluation.assess(model, images, "0.1", attack=PgdConfig(steps=1))


def test_alarm_is_raised_in_float64_about_points_of_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    right, wrong = ((torch.eye(2)[[i, i]] * 0 + torch.tensor([[1.0 - i], [float(i)]])) for i in (0, 1))
    nn.init.zeros_(model[1].bias)
    model[1].weight.data = right
    assert attacked(model, -0.01, monkeypatch).broken.tolist() == [False] * 3
    model[1].weight.data = wrong
    with pytest.raises(RuntimeError, match="image 1 was verified and yet broken"):
        attacked(model, -0.01, monkeypatch)
    assert attacked(model, 0.01, monkeypatch).broken.tolist() == [False] * 3, "outside of the box"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean((2, 3)),
        lambda x: torch.mean(x, 1),
        lambda x: nn.functional.adaptive_avg_pool2d(x, 2),
        lambda x: nn.functional.adaptive_avg_pool1d(x.flatten(2), 3),
        lambda x: nn.functional.avg_pool2d(x, 2),
        lambda x: nn.functional.layer_norm(x, (6,)),
        lambda x: torch.softmax(x, 1),
        lambda x: x @ x,
    ],
)
def test_bound_on_rounding_does_not_depend_on_the_batch(function: Callable[[Any], Any]) -> None:
    images = torch.rand(64, 3, 6, 6, dtype=torch.float64)
    whole, alone = (function(input_interval(x, 0.0, rounding=2.0**-53)).radius for x in (images, images[:1]))
    assert torch.allclose(whole[:1], alone, rtol=1e-6, atol=0.0)
