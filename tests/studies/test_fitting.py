"""One's own network, trained in one call: what is proven of it afterwards, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from hf_warmup import certify, fit_certified
from hf_warmup.bounds import UnsupportedOperation


def data(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of two classes, left half bright or right half."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = 0.5 * torch.rand(count, 1, 4, 4, generator=generator)
    images[labels == 0, :, :, :2] += 0.5
    images[labels == 1, :, :, 2:] += 0.5
    return images, labels


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def test_a_plain_module_is_proven_afterwards() -> None:
    model, told = network(), []
    images, labels = data(128)
    assert fit_certified(model, images, labels, eps=0.1, epochs=9, batch_size=16, on_record=told.append) is model
    assert not model.training
    assert len(told) == 72
    assert told[0].metrics["eps"] == 0
    assert told[-1].metrics["eps"] == pytest.approx(0.1)
    new, answers = data(64)
    # Trained as usual, such a network is proven of none (`recipes/guides/own_classifier.md`).
    assert certify(model, new, answers, eps=0.1, method="ibp").verified.float().mean() > 0.8
    again = network()
    fit_certified(again, images, labels, eps=0.1, epochs=9, batch_size=16)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs), "the seed decides"


def test_weights_that_are_there_can_be_kept() -> None:
    images, labels = data(64)
    kept, anew = network(), network()
    for model, from_scratch in ((kept, False), (anew, True)):
        fit_certified(
            model, images, labels, eps=0.1, epochs=3, batch_size=64, learning_rate=1e-12, from_scratch=from_scratch
        )
    torch.testing.assert_close(kept[1].weight, network()[1].weight)
    assert (anew[1].weight - network()[1].weight).abs().max() > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2}, "at least 3"),
        ({"pixel_values": torch.full((64, 1, 4, 4), 2.0)}, r"lie in \[0, 1\]"),
        ({"labels": torch.full((64,), 2)}, "class numbers"),
        ({"batch_size": 65}, "exceeds the 64"),
        ({"eps": "-1/255"}, "eps"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict, message: str) -> None:
    images, labels = data(64)
    given = {"pixel_values": images, "labels": labels, "eps": 0.1, "epochs": 3, "batch_size": 64, **change}
    with pytest.raises(ValueError, match=message):
        fit_certified(network(), **given)


def smooth() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 2))


def transformer() -> nn.Module:
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=4, patch_size=4, num_channels=1, num_labels=2))


class InDictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.net(pixel_values)}


@pytest.mark.parametrize("make", [smooth, transformer, InDictionary])
def test_networks_without_relu_and_outputs_that_hold_logits_are_trained(make: Callable[[], nn.Module]) -> None:
    images, labels = data(64)
    torch.manual_seed(0)
    model, told = make(), []
    fit_certified(model, images, labels, eps=0.01, epochs=9, batch_size=16, on_record=told.append)
    assert told[-1].metrics["robust_loss"] < told[9].metrics["robust_loss"]
    has_relu = any(isinstance(module, nn.ReLU) for module in model.modules())
    assert ("tightness_loss" in told[9].metrics) == has_relu


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 2, batch_first=True)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.cell(pixel_values.flatten(1, 2))[0][:, -1]


class Two(nn.Module):
    def forward(self, pixel_values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return pixel_values.flatten(1) * mask


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), "from_scratch=False"),
        (Recurrent(), "no rule bounds the operation torch.lstm"),
        (Two(), "cannot be called with images alone"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Dropout(), nn.Linear(4, 2)), "train with its rate at 0"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises((ValueError, UnsupportedOperation), match=message):
        fit_certified(model, *data(64), eps=0.1, epochs=3)
