"""Interval bounds of random networks beside auto_LiRPA's: `python tests/scripts/beside_auto_lirpa.py [NETWORKS]`.

Prints the networks of tests/bounds/random_nets.py, of layers that it has too, whose bounds are looser than its by more
than 1e-6, and then how far its bounds of softmax miss points of a box. It must be importable, as by PYTHONPATH.
"""

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


sys.path.insert(0, str(Path(__file__).parents[1] / "bounds"))

from random_nets import CHANNELS, SIDE, Net  # noqa: E402

from hf_warmup.bounds import Interval, propagate  # noqa: E402


def theirs(model: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Ends by auto_LiRPA's intervals."""
    from auto_LiRPA import BoundedModule, BoundedTensor
    from auto_LiRPA.perturbations import PerturbationLpNorm

    middle = (lower + upper) / 2
    with contextlib.redirect_stdout(io.StringIO()):
        bounded = BoundedModule(model, middle, device="cpu")
        box = BoundedTensor(middle, PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper))
        low, high = bounded.compute_bounds(x=(box,), method="IBP")
    return low.detach(), high.detach()


class Softmax(nn.Module):
    """Over the last dimension."""

    def forward(self, x: Any) -> Any:
        """Shares."""
        return torch.softmax(x, -1)


def looseness(seed: int) -> float:
    """How much looser our ends of a network's outputs are than theirs, relative to theirs; below 0 if tighter."""
    net = Net(seed, shared_only=True)
    torch.manual_seed(seed)
    image, eps = torch.rand(2, CHANNELS, SIDE, SIDE), [1e-4, 1e-2, 0.1][seed % 3]
    lower, upper = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
    middle = (lower + upper) / 2
    with torch.no_grad():
        ours = propagate(net, Interval(middle, middle, (upper - lower) / 2))
    low, high = theirs(net, lower, upper)
    size = torch.maximum(low.abs(), high.abs()) + 1e-12
    return float(torch.maximum((low - ours.lower) / size, (ours.upper - high) / size).max())


def missed(size: float) -> float:
    """How far corners of boxes of scores within +-size leave their bounds of softmax."""
    torch.manual_seed(0)
    ends = size * (2 * torch.rand(2, 50, 4) - 1)
    lower, upper = ends.amin(0), ends.amax(0)
    low, high = theirs(Softmax(), lower, upper)
    points = torch.where(torch.rand(200, 50, 4) < 0.5, lower, upper).softmax(-1)
    return float(torch.maximum(low - points, points - high).max())


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_default_dtype(torch.float64)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    found = {seed: looseness(seed) for seed in range(count)}
    for seed, value in found.items():
        if not value <= 1e-6:
            print(f"network {seed}, {', '.join(Net(seed, shared_only=True).names)}: looser by {value:.1e}")
    print(f"{sum(value <= 1e-6 for value in found.values())} of {count} are no looser")
    for size in (1.0, 10.0, 100.0, 1000.0):
        print(f"softmax of scores within {size}: points leave its bounds by {max(0.0, missed(size)):.1e}")
