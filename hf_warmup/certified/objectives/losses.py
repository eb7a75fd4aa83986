"""The loss of one batch whose bounds are needed: the function that `torch.compile` is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, Moments, propagate
from hf_warmup.bounds.interval import Rules
from hf_warmup.bounds.linear import LINEAR_RULES, linear_margins, with_steps
from hf_warmup.bounds.margins import check_labels, unchecked_margins
from hf_warmup.certified.objectives.adversary import at_points, unwrapped
from hf_warmup.certified.objectives.methods import Method, robust_cross_entropy
from hf_warmup.certified.regularizers import relu_balance_loss, tightness_loss


__all__ = ["Metrics", "Weights", "bounded_loss", "network_input", "robust_cross_entropy"]

Metrics = dict[str, float | Tensor]


@dataclass(frozen=True)
class Weights:
    """Radius and weights of a step's terms, as scalar tensors: what moves during training is no reason to recompile.

    A term whose weight is None is not computed; `linear` is that of margins by linear bounds among the robust ones.
    """

    eps: Tensor
    robust: Tensor | None
    natural: Tensor | None
    tightness: Tensor | None
    relu_balance: Tensor | None
    linear: Tensor | None = None


def bounded_loss(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    weights: Weights,
    tolerance: float,
    rules: Rules,
    method: Method,
    points: Tensor | None,
) -> tuple[Tensor, Tensor, Metrics]:
    """Loss, clean logits and metrics of a batch whose bounds are needed; never waits for a device.

    Args:
        model, pixel_values, labels: as an objective takes them.
        weights: of this step.
        tolerance: of the regularizers.
        rules: the table of bounds.
        method: what is bounded, and what the robust loss is.
        points: what its attack has found; None without one.
    """
    tape: list[Interval | Moments] | None = None
    if weights.tightness is not None or weights.relu_balance is not None:
        tape = []
    if pixel_values.dim() == 4:
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    box = method.box(pixel_values, weights.eps, points, tape=tape, rules=rules)
    bounds = propagate(model, box if weights.linear is None else with_steps(box))
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        check_labels(labels, *bounds.shape)
    loss = torch.zeros((), device=labels.device)
    metrics: Metrics = {}
    if weights.robust is not None:
        attained = None
        if points is not None and method.learns_points:
            attained = unchecked_margins(at_points(model, pixel_values, points, rules), labels.long())
            metrics["pgd_accuracy"] = (attained.detach() > 0).all(1).float().mean()
        proven = _proven(bounds, labels.long(), weights.linear)
        robust = method.loss(proven, attained)
        metrics["robust_loss"] = robust.detach()
        metrics[method.proves] = (proven.detach() > 0).all(1).float().mean()
        loss = loss + weights.robust * robust
    if weights.natural is not None:
        loss = loss + weights.natural * F.cross_entropy(bounds.clean, labels)
    for name, weight, term in _regularizers(model, box, tape or [], weights, tolerance):
        metrics[name] = term.detach()
        loss = loss + weight * term
    return loss, bounds.clean, metrics


def _regularizers(
    model: nn.Module, box: Interval, tape: list[Interval | Moments], weights: Weights, tolerance: float
) -> list[tuple[str, Tensor, Tensor]]:
    """Name, weight and value of those that have a weight; none for a network without ReLU, which they are about."""
    terms: list[tuple[str, Tensor, Tensor]] = []
    if not tape:
        return terms
    if weights.tightness is not None:
        term = tightness_loss(tape, network_input(model, box), tolerance=tolerance)
        terms.append(("tightness_loss", weights.tightness, term))
    if weights.relu_balance is not None:
        terms.append(("relu_balance_loss", weights.relu_balance, relu_balance_loss(tape, tolerance=tolerance)))
    return terms


def _proven(bounds: Interval, labels: Tensor, linear: Tensor | None) -> Tensor:
    """Margins by intervals, or blended with those by linear bounds, each of which is valid."""
    by_intervals = unchecked_margins(bounds, labels)
    if linear is None:
        return by_intervals
    return torch.lerp(by_intervals, linear_margins(bounds, labels, rules=LINEAR_RULES), linear)


def network_input(model: nn.Module, box: Interval) -> Interval:
    """The box behind the model's `normalization` layer, if it has one: what the paper calls the network's input."""
    layer = getattr(unwrapped(model), "normalization", None)
    if not isinstance(layer, nn.Module):
        return box
    normalized: Interval = layer(box)
    return normalized
