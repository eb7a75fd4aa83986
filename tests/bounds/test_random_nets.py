"""Nothing leaves the bounds of random networks over the table of rules."""

import pytest
import torch
from random_nets import CHANNELS, MIXING, SIDE, SMOOTH, Net
from test_image_classifiers import outside

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.bounds.exact import exactly


def check(net: Net, eps: float, *, samples: int, steps: int) -> None:
    image = torch.rand(1, CHANNELS, SIDE, SIDE, dtype=torch.float64).expand(3, -1, -1, -1)
    with torch.no_grad(), exactly():
        box = input_interval(image, eps, rounding=2.0**-53)
        bounds = propagate(net, box)
        assert outside(net, box, bounds, samples=samples, steps=steps) <= 1e-6, (net.names, eps)


@pytest.mark.parametrize("seed", range(24))
def test_nothing_leaves_the_bounds(seed: int) -> None:
    for eps in (1e-6, 0.03):
        check(Net(seed), eps, samples=6, steps=6)


def test_every_layer_is_drawn() -> None:
    drawn = {name for seed in range(300) for name in Net(seed).names}
    assert drawn == SMOOTH.keys() | MIXING.keys()


@pytest.mark.slow
def test_nothing_leaves_the_bounds_of_300() -> None:
    for seed in range(24, 324):
        for eps in (1e-7, 1e-3, 0.1):
            check(Net(seed), eps, samples=20, steps=20)
