"""alpha-CROWN: lower slopes of rectifiers chosen for each image and rival, by a few steps of Adam.

Any slope between a rectifier's two gives a valid line, so what is found may be stored and checked without the search.
Bounds on what activations take stay as they are. Source: Xu et al., arXiv 2011.13824, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.linear.backward import LinearRules
from hf_warmup.bounds.linear.crown import linear_margins
from hf_warmup.bounds.linear.relaxations import Relaxation, leaky_relu, relaxed, relu
from hf_warmup.bounds.provenance import Step


# Of each rectifier met on the way back, its lower slopes, (S, B, *shape) with S = K - 1 rivals.
Slopes = dict[Step, Tensor]
_RECTIFIERS: dict[Callable[..., Any], Relaxation] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), relu),
    F.leaky_relu: leaky_relu,
}


def alpha_margins(
    logits: Interval, labels: Tensor, *, rules: LinearRules, iterations: int = 20, learning_rate: float = 0.2
) -> tuple[Tensor, Slopes]:
    """`linear_margins` with the best slopes that a few steps of Adam find; no margin is worse than with adaptive ones.

    Args:
        logits: of a pass that began with `with_steps`, (B, K).
        labels: (B,), in [0, K).
        rules: linear bounds of operations.
        iterations: steps of Adam.
        learning_rate: of Adam, in units of slope.

    Returns:
        Margins, (B, K - 1), and the slopes that prove them.

    Raises:
        ValueError: as `hf_warmup.bounds.margins`.
    """
    slopes: Slopes = {}
    with torch.no_grad():
        best = margins_with(slopes, logits, labels, rules=rules)
    kept = {step: slope.clone() for step, slope in slopes.items()}
    adam = torch.optim.Adam([slope.requires_grad_() for slope in slopes.values()] or [best], lr=learning_rate)
    for _ in range(iterations):
        undecided = (best <= 0).any()
        if not slopes or not bool(undecided):
            break
        with torch.enable_grad():
            found = margins_with(slopes, logits, labels, rules=rules)
            # Of the slopes alone, whatever else of the model carries gradient.
            gradients = torch.autograd.grad(-found.sum(), list(slopes.values()))
        for slope, gradient in zip(slopes.values(), gradients, strict=True):
            slope.grad = gradient
        _keep_better(found.detach(), best, slopes, kept)
        adam.step()
        with torch.no_grad():
            for step, slope in slopes.items():
                slope.clamp_(min=_least_slope(step), max=1.0)
    with torch.no_grad():
        return margins_with(kept, logits, labels, rules=rules), kept


def margins_with(slopes: Slopes, logits: Interval, labels: Tensor, *, rules: LinearRules) -> Tensor:
    """`linear_margins` with given lower slopes; others take adaptive ones, which join them."""

    def choose(step: Step, adaptive: Tensor) -> Tensor:
        if step not in slopes:
            slopes[step] = adaptive.detach().clone()
        return slopes[step]

    chosen = {func: relaxed(relaxation, choose) for func, relaxation in _RECTIFIERS.items()}
    return linear_margins(logits, labels, rules={**rules, **chosen})


def storable(slopes: Slopes) -> Slopes:
    """The same slopes as float32 holds them, none flatter than the rectifier's own, in the dtype that they came in."""
    found = {}
    for step, slope in slopes.items():
        rounded = slope.detach().float()
        up = torch.nextafter(rounded, torch.ones_like(rounded))
        found[step] = torch.where(rounded.to(slope.dtype) < _least_slope(step), up, rounded).to(slope.dtype)
    return found


def _keep_better(found: Tensor, best: Tensor, slopes: Slopes, kept: Slopes) -> None:
    """Take over, row by row, the slopes whose margins are better than before."""
    better = found > best
    best.copy_(torch.where(better, found, best))
    for step, slope in slopes.items():
        mask = better.T.reshape(*better.T.shape, *[1] * (slope.dim() - 2))
        kept[step] = torch.where(mask, slope.detach(), kept[step])


def _least_slope(step: Step) -> float:
    """The flatter slope of a rectifier."""
    if step.func is not F.leaky_relu:
        return 0.0
    slope = step.args[1] if len(step.args) > 1 else step.kwargs.get("negative_slope", 0.01)
    return float(slope)
