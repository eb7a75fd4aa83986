"""One's own network, trained in one call: what is proven of it afterwards, and what is refused."""

import pytest
import torch
from torch import nn

from hf_warmup import certify, fit_certified


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
