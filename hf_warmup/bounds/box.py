"""What a perturbation may be: the boxes of a batch of images, by a radius, by many radii, or by their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, Rules
from hf_warmup.bounds.propagation import between, input_interval
from hf_warmup.bounds.radius import parse_eps


# A radius as a person gives it: one for all images, or a tensor as `box_of` takes it.
Radius = float | str | Fraction | Tensor
# Of a point that is meant to lie within a radius: so much it stays away from the end, which rounding may have moved.
_INWARDS = 2.0**-50


@dataclass(frozen=True)
class Box:
    """Images and, around each, the points that a perturbation may make of it: a box, cut to pixels in [0, 1].

    Attributes:
        pixel_values: (B, ...).
        eps: radius of each pixel in pixel units, float64, broadcastable to the images, with B rows; None for ends.
        ends: least and greatest value of each pixel, in [0, 1], float64, as `eps`; None for a radius.
    """

    pixel_values: Tensor
    eps: Tensor | None
    ends: tuple[Tensor, Tensor] | None = None

    @property
    def lower(self) -> Tensor:
        """Least value of each pixel, (B, ...) in float64."""
        return self._end(0)

    @property
    def upper(self) -> Tensor:
        """Greatest value of each pixel, (B, ...) in float64."""
        return self._end(1)

    @property
    def reach(self) -> Tensor:
        """The radius, or half of what lies between the ends, float64, broadcastable to the images."""
        if self.ends is None:
            assert self.eps is not None
            return self.eps
        return (self.ends[1] - self.ends[0]) / 2

    @property
    def least_radius(self) -> float:
        """Each image's ball of this radius lies within its box; 0 where ends are given."""
        return 0.0 if self.eps is None else float(self.eps.min())

    @property
    def largest_radius(self) -> float:
        """No pixel may change by more; not rounded down."""
        if self.eps is not None:
            return float(self.eps.max())
        exact = self.pixel_values.double()
        largest = float(torch.maximum(exact - self.lower, self.upper - exact).max())
        return math.nextafter(largest, 1.0) if largest else 0.0

    def __len__(self) -> int:
        return len(self.pixel_values)

    def __getitem__(self, rows: Tensor | slice) -> Box:
        """The boxes of some images."""
        eps = None if self.eps is None else self.eps[rows]
        ends = None if self.ends is None else (self.ends[0][rows], self.ends[1][rows])
        return Box(self.pixel_values[rows], eps, ends)

    def to(self, dtype: torch.dtype) -> Box:
        """The same radii or ends around the images as `dtype` holds them."""
        return replace(self, pixel_values=self.pixel_values.to(dtype))

    def interval(self, *, rounding: float = 0.0, rules: Rules | None = None) -> Interval:
        """As a model takes it, in the images' dtype; one in float64 with `rounding` contains the whole box."""
        images = self.pixel_values
        if self.ends is None:
            return input_interval(images, self.reach.to(images.dtype), rounding=rounding, rules=rules)
        lower, upper = (end.to(images.dtype).expand_as(images) for end in self.ends)
        return between(images, lower, upper, rounding=rounding, rules=rules)

    def copy(self) -> Box:
        """The same boxes in tensors of their own, which no caller can change."""
        eps = None if self.eps is None else self.eps.clone()
        ends = None if self.ends is None else (self.ends[0].clone(), self.ends[1].clone())
        return Box(self.pixel_values.clone(), eps, ends)

    def same(self, other: Box) -> bool:
        """Whether both are the same boxes around the same images."""
        return len(self) == len(other) and all(
            torch.equal(mine, theirs) for mine, theirs in zip(self._values(), other._values(), strict=True)
        )

    def holds(self, points: Tensor) -> Tensor:
        """Whether each point lies in its image's box, (B,), for points (B, ...) in float64."""
        inside = (points >= 0) & (points <= 1)
        if self.ends is None:
            inside &= (points - self.pixel_values.double()).abs() <= self.reach
        else:
            inside &= (points >= self.ends[0]) & (points <= self.ends[1])
        return inside.flatten(1).all(1)

    def nearest(self, points: Tensor) -> Tensor:
        """The points of the boxes next to some, (B, ...) in float64; rounding moves none out of its box."""
        if self.ends is None:
            images, inner = self.pixel_values.double(), (self.reach - _INWARDS).clamp(min=0)
            lower, upper = images - inner, images + inner
        else:
            lower, upper = self.ends
        return torch.minimum(torch.maximum(points, lower), upper).clamp(0, 1)

    def _values(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.pixel_values, self.lower, self.upper

    def _end(self, which: int) -> Tensor:
        exact = self.pixel_values.double()
        if self.ends is None:
            end = exact + self.reach if which else exact - self.reach
        else:
            end = self.ends[which].expand_as(exact)
        return end.clamp(0, 1)


def box_of(
    pixel_values: Tensor,
    eps: Radius | None = None,
    *,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
) -> Box:
    """The boxes that a person asks for, around images in [0, 1].

    Args:
        pixel_values: (B, ...).
        eps: radius in pixel units, in [0, 1]: one for all, such as "8/255", or a tensor. A tensor of shape (B,) has
            one radius for each image, whatever else the shape could mean; every other has the dimensions of one image
            or of the images, and is broadcast to them. A tensor means exactly the numbers that it holds, and float32
            may hold 8/255 rounded down.
        lower, upper: instead of `eps` the least and greatest value of each pixel, with shapes as `eps`; what lies
            beyond [0, 1] is cut.

    Raises:
        ValueError: for both or neither of them, other shapes, numbers that are not finite, radii outside [0, 1], or
            an image outside its box.
    """
    if (eps is None) == (lower is None and upper is None) or (lower is None) != (upper is None):
        raise ValueError("eps must be given, or else lower and upper together.")
    if lower is not None and upper is not None:
        ends = _fitted("lower", lower, pixel_values), _fitted("upper", upper, pixel_values)
        exact = pixel_values.double()
        if not bool(ends[0].isfinite().all() & ends[1].isfinite().all()):
            raise ValueError("lower and upper must hold finite numbers only.")
        outside = ((exact < ends[0]) | (exact > ends[1])).flatten(1).any(1)
        if bool(outside.any()):
            raise ValueError(
                f"lower <= pixel_values <= upper must hold everywhere; image {int(outside.nonzero()[0, 0])} lies "
                "outside its box (all three are compared as float64 holds them)."
            )
        return Box(pixel_values, None, (ends[0].clamp(0, 1), ends[1].clamp(0, 1)))
    eps = plain_tensor("eps", eps) if isinstance(eps, Tensor) else eps
    if isinstance(eps, Tensor) and eps.dim() > 0:
        radii = _fitted("eps", eps, pixel_values)
        if not bool(((radii >= 0) & (radii <= 1)).all()):
            raise ValueError(
                f"every eps must lie in [0, 1], as pixels do; they reach from {radii.min().item():.4g} to "
                f"{radii.max().item():.4g}. Write 8 / 255 for 8 of 255 levels."
            )
        return Box(pixel_values, radii)
    if not isinstance(eps, str) and hasattr(eps, "__len__") and not isinstance(eps, Tensor):
        raise ValueError(
            f"eps must be a number, a fraction as text or a tensor, got {type(eps).__name__}: use torch.tensor(...)."
        )
    radius = parse_eps(eps.item() if isinstance(eps, Tensor) else eps)  # type: ignore[arg-type]
    shape = (len(pixel_values), *[1] * (pixel_values.dim() - 1))
    return Box(pixel_values, torch.full(shape, radius, dtype=torch.float64, device=pixel_values.device))


def plain_tensor(name: str, values: Tensor) -> Tensor:
    """The numbers of a tensor of any class as an ordinary one, without a graph.

    Raises:
        ValueError: for one whose numbers do not lie in memory as such: sparse, nested, quantized, on no device, or of
            a class that answers for each operation itself.
    """
    with torch._C.DisableTorchFunctionSubclass():
        strange = type(values).__torch_dispatch__ is not Tensor.__torch_dispatch__
        if strange or values.layout != torch.strided or values.is_nested or values.is_quantized or values.is_meta:
            kind = type(values).__name__ if strange else f"{values.layout} tensor on {values.device}"
            raise ValueError(
                f"{name} must be an ordinary dense tensor, got a {kind}: convert it first, such as by to_dense() or "
                "torch.tensor(values.tolist())."
            )
        found = values.detach().as_subclass(Tensor)
    # One of inference mode could not be written to, nor saved for gradients.
    return found.clone() if found.is_inference() else found


def _fitted(name: str, values: Tensor, pixel_values: Tensor) -> Tensor:
    """In float64, with one row for each image and all dimensions of the images."""
    found = plain_tensor(name, values) if isinstance(values, Tensor) else None
    if found is None or found.dtype == torch.bool or found.is_complex():
        kind = type(values).__name__ if found is None else found.dtype
        raise ValueError(f"{name} must be a tensor of numbers, got {kind}: use torch.tensor(...).")
    images, shape = tuple(pixel_values.shape), tuple(found.shape)
    found = found.to(device=pixel_values.device, dtype=torch.float64)
    # (B,) is tried first: images of one dimension with as many features may mean it as well.
    if shape == images[:1]:
        found = found.view(-1, *[1] * (len(images) - 1))
    elif len(shape) not in (len(images) - 1, len(images)) or len(shape) == 1 or not _broadcasts(shape, images):
        raise ValueError(
            f"{name} must have the shape {images[:1]}, one number for each image, or one that is broadcast to an "
            f"image, {images[1:]}, or to all of them, {images}; got {shape}."
        )
    elif len(shape) < len(images):
        found = found[None]
    return found.expand(len(pixel_values), *found.shape[1:])


def _broadcasts(shape: tuple[int, ...], images: tuple[int, ...]) -> bool:
    """Whether each dimension, counted from the last, is 1 or the images' own."""
    return all(one in (1, other) for one, other in zip(shape[::-1], images[::-1], strict=False))
