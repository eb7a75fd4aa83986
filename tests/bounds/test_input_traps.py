"""What images, labels, radii and attacks could be given that would void a proof."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trapped import DOUBLE, linear, number

from hf_warmup import certify
from hf_warmup.certified import Verifier, pgd, precise_batch_norm_


def test_attack_on_preactivation_blocks_finds_nothing_proven() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            return self.last(self.middle(F.relu(x)) + x)

    torch.manual_seed(0)
    verified = 0
    for _ in range(10):
        model, images = Block().eval(), torch.rand(32, 4)
        labels = model(images).argmax(1)
        found = certify(model, images, labels, eps=0.02).verified
        assert not (found & pgd(model, images, labels, 0.02, steps=20).broken).any()
        verified += int(found.sum())
    assert verified > 50


@pytest.mark.parametrize("labels", [torch.tensor([True]), torch.tensor([0.0])])
def test_labels_are_integers(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        certify(linear([[1.0], [0.0]], [0.1, 0.0]).eval(), number([0.5]), labels, eps=0.1)


def test_labels_of_eight_bits_are_no_mask() -> None:
    model, pixels = linear([[1.0], [0.0], [0.5]], [0.1, 0.0, 0.0]).eval(), number([0.5, 0.6])
    margins = [
        certify(model, pixels, torch.tensor([0, 2], dtype=d), eps=0.1).margin for d in (torch.uint8, torch.int64)
    ]
    assert torch.equal(*margins)


def test_attacks_stay_in_the_exact_box() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 5)
    model = nn.Linear(5, 3).eval()
    found = pgd(model, images, torch.zeros(64, dtype=torch.long), 8 / 255, restarts=2).pixel_values.double()
    assert (found - images.double()).abs().max() <= 8 / 255


@pytest.mark.parametrize("eps", [-0.2, 1.5, math.nan])
def test_radii_of_single_images_lie_in_the_range_of_pixels(eps: float) -> None:
    verifier = Verifier(linear([[1.0], [0.0]], [0.1, 0.0]).eval())
    with pytest.raises(ValueError, match="every eps must lie in"):
        verifier.verified_at(number([0.5]), torch.tensor([0]), torch.tensor([eps], dtype=DOUBLE))


def test_statistics_of_no_batch_are_no_statistics() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).train()
    model[1].eval()
    with pytest.raises(ValueError, match="no batch"):
        precise_batch_norm_(model, [])
    assert (model.training, model[1].training) == (True, False), "frozen layers stay so"
