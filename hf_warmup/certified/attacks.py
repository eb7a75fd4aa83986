"""Projected gradient descent: an upper limit on what can be verified, and a check on every proof."""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds.box import Box, box_of
from hf_warmup.bounds.propagation import logits_in
from hf_warmup.yaml_config import Strict


@dataclass(frozen=True)
class Attack:
    """Result of an attack.

    Attributes:
        pixel_values: for each image the misclassified point that was found, or the last one tried, (B, C, H, W).
        broken: whether a misclassified point was found (the image itself counts), (B,).
    """

    pixel_values: Tensor
    broken: Tensor


def pgd(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    eps: float | Tensor | Box,
    *,
    steps: int = 40,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Attack:
    """Attack with signed gradients of the cross-entropy, from random starts in the box, cut to pixels in [0, 1].

    A step is a quarter of eps, pixel by pixel (more for fewer than 8 steps), a tenth of it after 70 % of the steps;
    with 50 steps or more it falls to a tenth after 50, 80 and 90 %. Where a model gives no gradient of its images, as
    under torch.no_grad(), signs are random.

    Args:
        model: in eval mode; its parameters' gradients are not touched.
        pixel_values: (B, C, H, W) in [0, 1].
        labels: (B,).
        eps: radius in pixel units, one for all or as `hf_warmup.certify` takes them; or boxes of these images.
        steps: gradient steps of a restart.
        restarts: independent random starts.
        generator: of the starts, on the CPU.

    Source: Madry et al., arXiv 1706.06083; the step schedule is CTBench's (arXiv 2406.04848).
    """
    with torch.enable_grad():
        found = pixel_values.clone()
        broken = _predict(model, pixel_values) != labels
        box = eps if isinstance(eps, Box) else box_of(pixel_values, eps)
        low, high = _inwards(box.pixel_values, box.lower, box.upper)
        for _ in range(restarts):
            left = (~broken).nonzero().flatten()
            if len(left) == 0:
                break
            ends = low[left], high[left]
            noise = torch.rand(ends[0].shape, generator=generator, dtype=low.dtype, device="cpu").to(low.device)
            start = torch.minimum(ends[0] + noise * (ends[1] - ends[0]), ends[1])
            points, success = _descend(model, labels[left], ends, start, box.reach[left], steps, generator)
            found[left], broken[left] = points, success
    return Attack(found.detach(), broken)


def inner_box(pixel_values: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Ends of the box, rounded inwards: a point outside of it would be no counterexample."""
    exact = pixel_values.double()
    return _inwards(pixel_values, (exact - eps).clamp(min=0), (exact + eps).clamp(max=1))


def _inwards(pixel_values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    inner_low, inner_high = low.to(pixel_values), high.to(pixel_values)
    inner_low = torch.where(inner_low < low, torch.nextafter(inner_low, pixel_values), inner_low)
    inner_high = torch.where(inner_high > high, torch.nextafter(inner_high, pixel_values), inner_high)
    return inner_low, inner_high


def _descend(
    model: nn.Module,
    labels: Tensor,
    ends: tuple[Tensor, Tensor],
    start: Tensor,
    reach: Tensor,
    steps: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    points = start
    best, broken = start.clone(), torch.zeros_like(labels, dtype=torch.bool)
    for step in range(steps + 1):
        points = points.detach().requires_grad_()
        logits = _logits(model, points)
        new = (logits.argmax(1) != labels) & ~broken
        best[new], broken = points.detach()[new], broken | new
        if step == steps or bool(broken.all()):
            break
        signs = _signs(F.cross_entropy(logits, labels, reduction="sum"), points, generator)
        points = points.detach() + (_step_size(step, steps) * reach).to(points.dtype) * signs
        points = torch.minimum(torch.maximum(points, ends[0]), ends[1])
    best[~broken] = points.detach()[~broken]
    return best, broken


def _signs(loss: Tensor, points: Tensor, generator: torch.Generator | None) -> Tensor:
    """The gradient's signs; random ones where there is no gradient."""
    gradient = torch.autograd.grad(loss, points, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        return torch.randint(0, 2, points.shape, generator=generator, device="cpu").to(points) * 2 - 1
    return gradient.sign()


def _step_size(step: int, steps: int) -> float:
    drops = (0.5, 0.8, 0.9) if steps >= 50 else (0.7,)
    size: float = max(0.25, 2 / steps) * 0.1 ** sum(step >= drop * steps for drop in drops)
    return size


def _logits(model: nn.Module, pixel_values: Tensor) -> Tensor:
    output = model(pixel_values)
    logits: Tensor = logits_in(output)
    return logits


@torch.no_grad()
def _predict(model: nn.Module, pixel_values: Tensor) -> Tensor:
    return _logits(model, pixel_values).argmax(1)


class PgdConfig(Strict):
    """The attack: on `examples` of the test split, drawn by a fixed seed, or on all for None.

    It comes after the last epoch, or after `every_epoch`.
    """

    steps: int = Field(default=40, ge=1)
    restarts: int = Field(default=1, ge=1)
    examples: int | None = Field(default=None, ge=1)
    every_epoch: bool = False
