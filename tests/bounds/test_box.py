"""What a perturbation may be: shapes, ends and rounding of boxes, and one clear line for what is none."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_warmup.bounds.box import Box, box_of


IMAGES = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
DOUBLE = torch.float64


def some(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE) / 10


@pytest.mark.parametrize(
    "shape", [(3, 1, 1), (3, 4, 2), (1, 4, 1), (2, 1, 1, 1), (1, 3, 1, 1), (2, 3, 4, 2), (1, 1, 1, 2)]
)
def test_radii_are_broadcast_as_torch_broadcasts(shape: tuple[int, ...]) -> None:
    box = box_of(IMAGES, some(*shape))
    assert torch.equal(box.lower, (IMAGES.double() - some(*shape)).clamp(0, 1))
    assert torch.equal(box.upper, (IMAGES.double() + some(*shape)).clamp(0, 1))
    assert box.largest_radius == some(*shape).max()
    assert torch.equal(box[torch.tensor([1])].lower, box.lower[1:])


def test_one_radius_for_each_image_whatever_else_the_shape_could_mean() -> None:
    assert torch.equal(box_of(IMAGES, some(2)).lower, (IMAGES.double() - some(2)[:, None, None, None]).clamp(0, 1))
    square, radii = torch.full((3, 3), 0.5, dtype=DOUBLE), torch.tensor([0.0, 0.1, 0.2], dtype=DOUBLE)
    assert box_of(square, radii).upper[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert box_of(square, radii[None]).upper[0].tolist() == [0.5, 0.6, 0.7]


def test_ends_are_cut_and_not_made_symmetric() -> None:
    lower, upper = torch.tensor([-1.0, 0.2, 0.5]), torch.tensor([0.3, 0.2, 4.0])
    box = box_of(torch.tensor([[0.25, 0.2, 0.5]]), lower=lower[None], upper=upper[None])
    assert torch.equal(box.lower, torch.tensor([[0.0, 0.2, 0.5]]).double())
    assert torch.equal(box.upper, torch.tensor([[0.3, 0.2, 1.0]]).double())
    assert torch.allclose(box.to(DOUBLE).interval().center, (box.lower + box.upper) / 2)
    assert 0.5 <= box.largest_radius <= 0.5 + 1e-15
    assert box.holds(box.lower).tolist() == box.holds(box.upper).tolist() == [True]
    assert box.holds(box.upper + 1e-9).tolist() == box.holds(box.lower - 1e-9).tolist() == [False]


def exactly(values: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in values.flatten().tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_in_float64_no_rounding_loses_a_point_of_the_asked_box(dtype: torch.dtype) -> None:
    images, radii = torch.rand(4, 1, 50, dtype=dtype), torch.rand(4, 1, 50, dtype=dtype)
    low, high = (images - radii).clamp(0, 1), (images + radii).clamp(0, 1)
    by_radius = [
        [(max(Fraction(0), x - r), min(Fraction(1), x + r))]
        for x, r in zip(exactly(images), exactly(radii), strict=True)
    ]
    by_ends = [[pair] for pair in zip(exactly(low), exactly(high), strict=True)]
    for box, asked in ((box_of(images, radii), by_radius), (box_of(images, lower=low, upper=high), by_ends)):
        interval = box.to(DOUBLE).interval(rounding=2.0**-53)
        centers, widths = exactly(interval.center), exactly(interval.radius)
        for center, radius, [(least, most)] in zip(centers, widths, asked, strict=True):
            assert center - radius <= least <= most <= center + radius
            assert radius <= (most - least) / 2 + Fraction(1, 10**14)


@pytest.mark.parametrize("box", [box_of(IMAGES, some(2, 3, 4, 2)), box_of(IMAGES, lower=IMAGES - 0.3, upper=IMAGES)])
def test_the_nearest_point_lies_in_the_box(box: Box) -> None:
    points = 4 * torch.rand(IMAGES.shape, dtype=DOUBLE) - 2
    assert not box.holds(points).any()
    assert box.holds(box.nearest(points)).all()
    assert torch.equal(box.nearest(IMAGES.double()), IMAGES.double())
    beside = box.nearest(points)
    beside[1, 2, 3, 1] = points[1, 2, 3, 1] + 3
    assert box.holds(beside).tolist() == [True, False], "one pixel is enough"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "eps must be given, or else lower and upper together"),
        ({"eps": 0.1, "lower": IMAGES, "upper": IMAGES}, "eps must be given, or else lower and upper together"),
        ({"lower": IMAGES}, "eps must be given, or else lower and upper together"),
        ({"eps": some(3)}, r"eps must have the shape \(2,\).*\(3, 4, 2\).*\(2, 3, 4, 2\); got \(3,\)"),
        ({"eps": some(4, 2)}, r"got \(4, 2\)"),
        ({"eps": some(2, 4, 2)}, r"got \(2, 4, 2\)"),
        ({"eps": some(1, 2, 3, 4, 2)}, r"got \(1, 2, 3, 4, 2\)"),
        ({"eps": some(3, 1, 1) * math.nan}, "every eps must lie in"),
        ({"eps": some(3, 1, 1) - 0.2}, "every eps must lie in"),
        ({"eps": some(3, 1, 1) * math.inf}, "every eps must lie in"),
        ({"eps": torch.tensor(-0.1)}, "eps must lie in"),
        ({"eps": some(3, 1, 1) > 0}, r"eps must be a tensor of numbers, got torch.bool"),
        ({"eps": [0.1, 0.2]}, "eps must be a number, a fraction as text or a tensor, got list"),
        ({"lower": 0.0, "upper": IMAGES}, "lower must be a tensor of numbers, got float"),
        ({"lower": IMAGES - math.inf, "upper": IMAGES}, "lower and upper must hold finite numbers"),
        ({"lower": IMAGES, "upper": IMAGES * math.nan}, "lower and upper must hold finite numbers"),
        ({"lower": IMAGES, "upper": IMAGES - 1e-3}, "image 0 lies outside its box"),
    ],
)
def test_what_is_no_box_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        box_of(IMAGES, **asked)
    assert "\n" not in str(found.value)
