"""The attack that a training step makes, and what a model says of the points that it finds.

In training a model normalizes all points by the statistics of the clean batch, as it normalizes bounds: those under
attack as constants, those that are learned from with their gradient, as CTBench does (arXiv 2406.04848).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from hf_warmup.bounds import Interval
from hf_warmup.bounds.interval import Rules
from hf_warmup.bounds.propagation import logits_in
from hf_warmup.certified.attacks import inner_box


@dataclass(frozen=True)
class TrainingAttack:
    """Steps and random starts of the attack on a batch, and its radius as a multiple of the one trained for."""

    steps: int = 8
    restarts: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("restarts", self.restarts), ("scale", self.scale)):
            if not value > 0:
                raise ValueError(f"an attack's {name} must be positive, got {value!r}.")


def worst_points(model: nn.Module, pixel_values: Tensor, labels: Tensor, eps: float, attack: TrainingAttack) -> Tensor:
    """Of all points that signed gradients lead to, those of the highest cross-entropy, (B, C, H, W).

    A step is a quarter of the box's half width, more for fewer than 8 steps, and a fifth of that after every 10.
    Random starts come from torch's generator of the images' device.

    Args:
        model: in training or evaluation mode; neither it nor gradients nor statistics are touched.
        pixel_values: (B, C, H, W) in [0, 1].
        labels: (B,).
        eps: radius trained for, in pixel units.
        attack: how hard to try.

    Source: Madry et al., arXiv 1706.06083, section 2; steps and choice as in CTBench (arXiv 2406.04848).
    """
    low, high = inner_box(pixel_values, eps * attack.scale)
    best, highest = pixel_values, torch.full(labels.shape, -torch.inf, device=labels.device)
    with torch.enable_grad(), _of_clean_batch(unwrapped(model), pixel_values) as classify:
        for _ in range(attack.restarts):
            points = torch.minimum(low + torch.rand_like(low) * (high - low), high)
            for step in range(attack.steps + 1):
                points = points.detach().requires_grad_()
                losses = F.cross_entropy(classify(points), labels, reduction="none")
                better = losses.detach() > highest
                best = torch.where(better[:, None, None, None], points.detach(), best)
                highest = torch.where(better, losses.detach(), highest)
                if step < attack.steps:
                    (gradient,) = torch.autograd.grad(losses.sum(), points)
                    size = max(0.25, 2 / attack.steps) * 0.2 ** (step // 10)
                    points = points.detach() + size * (high - low) / 2 * gradient.sign()
                    points = torch.minimum(torch.maximum(points, low), high)
    return best


def at_points(model: nn.Module, pixel_values: Tensor, points: Tensor, rules: Rules) -> Interval:
    """Logits at points as intervals of radius 0, (B, K); running statistics stay as they are."""
    inner = unwrapped(model)
    throwaway = {name: buffer.clone() for name, buffer in inner.named_buffers()}
    box = Interval(pixel_values, points, torch.zeros_like(points), rules=rules)
    output = functional_call(inner, throwaway, (box,))
    logits: Interval = logits_in(output)
    return logits


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of DistributedDataParallel's."""
    inner: nn.Module = getattr(model, "module", model)
    return inner


@contextmanager
def _of_clean_batch(model: nn.Module, pixel_values: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """The model in evaluation mode, a layer that was training with the clean batch's statistics."""
    modes = [(module, module.training) for module in model.modules()]
    statistics = _statistics(model, pixel_values)
    model.eval()

    def classify(points: Tensor) -> Tensor:
        output = functional_call(model, statistics, (points,))
        logits: Tensor = logits_in(output)
        return logits

    try:
        yield classify
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def _statistics(model: nn.Module, pixel_values: Tensor) -> dict[str, Tensor]:
    """Mean and variance of the batch at every layer that normalizes by them, under the names of its running ones."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats and module.momentum != 0
    }
    if not layers:
        return {}
    # What was 0 has moved to the share `momentum` of what the layer saw.
    moved = {name: torch.zeros_like(buffer) for name, buffer in _buffers_of(layers)}
    functional_call(model, moved, (pixel_values,))
    for name, layer in layers.items():
        for statistic in ("running_mean", "running_var"):
            moved[f"{name}.{statistic}"] /= 1.0 if layer.momentum is None else layer.momentum
    return moved


def _buffers_of(layers: dict[str, _BatchNorm]) -> Iterator[tuple[str, Tensor]]:
    for name, layer in layers.items():
        for kind, buffer in layer.named_buffers():
            yield f"{name}.{kind}", buffer
