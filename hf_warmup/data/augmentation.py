"""Random flips and crops that are functions of seed, epoch and index: the same on any device, by any number of
processes, in any batch, and after any resumption, with no generator's state to keep.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Augmentation:
    """Flips half of the images, then crops each out of itself padded by repeating its edge pixels.

    Attributes:
        seed: of the run.
        flip: whether images are mirrored left to right.
        padding: pixels on each side; 0 crops nothing.
    """

    seed: int
    flip: bool = False
    padding: int = 0

    def __call__(self, images: Tensor, indices: Tensor, *, epoch: int) -> Tensor:
        """Images (B, C, H, W), the `indices`-th of their data set, (B,), as they are in an epoch, 0-based."""
        if self.flip:
            flipped = self._draws(indices, epoch, number=0, below=2) == 1
            images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        if self.padding:
            places = 2 * self.padding + 1
            rows, columns = (self._draws(indices, epoch, number=number, below=places) for number in (1, 2))
            images = _crops(images, rows, columns, self.padding)
        return images

    def _draws(self, indices: Tensor, epoch: int, *, number: int, below: int) -> Tensor:
        """One integer in [0, below) for each index, (B,)."""
        run = torch.full_like(indices, _signed(self.seed * _GOLDEN))
        bits = _mixed(_mixed(_mixed(run) + (3 * epoch + number)) + indices)
        # The upper 32 bits scaled down; what that prefers is less than below / 2^32.
        return ((bits >> 32) & 0xFFFFFFFF) * below >> 32


def _crops(images: Tensor, rows: Tensor, columns: Tensor, padding: int) -> Tensor:
    count, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4, mode="replicate")
    vertical = (rows.view(-1, 1) + torch.arange(height, device=rows.device)).view(count, 1, height, 1)
    horizontal = (columns.view(-1, 1) + torch.arange(width, device=rows.device)).view(count, 1, 1, width)
    image = torch.arange(count, device=rows.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=rows.device).view(1, -1, 1, 1)
    return padded[image, channel, vertical, horizontal]


def _mixed(state: Tensor) -> Tensor:
    """The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), on the 64 bits of signed integers."""
    state = state + _signed(_GOLDEN)
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    # Torch's shift repeats the sign.
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value
