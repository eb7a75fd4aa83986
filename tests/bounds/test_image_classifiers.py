"""Every image classifier of transformers that can be built small is bounded, and nothing leaves its bounds."""

import pytest
import torch
from image_classifiers import built, classes
from torch import Tensor, nn

from hf_warmup.bounds import Interval, input_interval, propagate
from hf_warmup.bounds.exact import exactly


# Radii at which bounds grow with the radius, and at which layers no longer know more of numbers than their signs.
RADII = (1e-7, 1e-3)
# Short of all, which take 20 seconds: some that use many kinds of operations.
QUICK = ("Levit", "Swinv2", "MobileViTV2", "Siglip", "Cvt")


def outside(model: nn.Module, box: Interval, bounds: Interval, *, samples: int, steps: int) -> float:
    """By how much of their width logits leave their bounds, at random points, at corners and where PGD leads.

    Every image of the box is the same, so that one pass tries as many points.
    """

    def excess(points: Tensor) -> Tensor:
        logits = model(points)
        logits = getattr(logits, "logits", logits)
        width = (bounds.upper - bounds.lower).clamp(min=1e-300)
        return torch.maximum(bounds.lower - logits, logits - bounds.upper) / width

    lower, upper = box.center - box.radius, box.center + box.radius
    worst = -1.0
    for draw in range(samples):
        place = torch.rand_like(lower)
        found = excess(lower + (place.round() if draw % 2 else place) * (upper - lower))
        worst = max(worst, found.max().item())
    points = box.center.clone()
    for _ in range(steps):
        points.requires_grad_()
        with torch.enable_grad():
            found = excess(points)
            # Each copy of the image goes for one end of one logit.
            goals = found[torch.arange(len(points)), torch.arange(len(points)) % found.shape[1]]
            (step,) = torch.autograd.grad(goals.sum(), points)
        points = (points.detach() + step.sign() * (upper - lower) / 4).clamp(min=lower, max=upper)
        worst = max(worst, excess(points).max().item())
    return worst


def check(model: nn.Module, side: int, eps: float, *, samples: int = 6, steps: int = 6) -> tuple[float, float]:
    """Width of the logits' bounds, and by how much of it points leave them."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, side, side, dtype=torch.float64).expand(3, -1, -1, -1)
    with torch.no_grad(), exactly():
        box = input_interval(image, eps, rounding=2.0**-53)
        bounds = propagate(model, box)
        width = (bounds.upper - bounds.lower).max().item()
        return width, outside(model, box, bounds, samples=samples, steps=steps)


NAMES = {name.removesuffix("ForImageClassification"): name for name in classes()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_no_point_of_the_box_leaves_the_bounds(name: str) -> None:
    model, side = built(NAMES[name])
    for eps in RADII:
        width, excess = check(model, side, eps)
        assert 0 < width < float("inf")
        # Rounding of the passes themselves.
        assert excess <= 1e-6, "of the bounds' width"
