"""CROWN and CROWN-IBP: margins by linear bounds, with activations' inputs bounded by intervals or by linear bounds.

CROWN-IBP walks back from the logits alone. CROWN bounds what each activation takes before it goes on, for the units
whose sign (or kink) is undecided, and passes the narrower interval on: whatever follows is computed from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, from_ends
from hf_warmup.bounds.linear.backward import LinearRules, lower_bounds
from hf_warmup.bounds.linear.windows import window_ends
from hf_warmup.bounds.margins import check_labels, of_probabilities, rivals_of
from hf_warmup.bounds.provenance import Softmax, Step


def _crosses_zero(lower: Tensor, upper: Tensor) -> Tensor:
    return (lower < 0) & (upper > 0)


def _crosses_zero_or_six(lower: Tensor, upper: Tensor) -> Tensor:
    return _crosses_zero(lower, upper) | ((lower < 6) & (upper > 6))


def _not_a_point(lower: Tensor, upper: Tensor) -> Tensor:
    return lower < upper


# Of each operation that is not affine: the units of its input whose bounds decide how loose it is.
UNDECIDED: dict[Callable[..., Any], Callable[[Tensor, Tensor], Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu, F.leaky_relu), _crosses_zero),
    **dict.fromkeys(
        (F.hardtanh, torch.clamp, Tensor.clamp, torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh),
        _not_a_point,
    ),
    F.relu6: _crosses_zero_or_six,
    F.max_pool2d: _not_a_point,
}

# Numbers in the largest tensor of coefficients, 32 MB in float64.
BUDGET = 2**22


def with_steps(
    interval: Interval, *, refine: Callable[[Callable[..., Any], Interval], Interval] | None = None
) -> Interval:
    """The same input, from which every operation will remember how it was done."""
    return replace(interval, step=Step(refine=refine))


def linear_margins(
    logits: Interval, labels: Tensor, *, rules: LinearRules, unrelaxed: set[str] | None = None
) -> Tensor:
    """Lower bounds of logit(label) - logit(j) for every other class j, in ascending order of j, by linear bounds.

    Args:
        logits: of a pass that began with `with_steps`, (B, K).
        labels: (B,), in [0, K).
        rules: linear bounds of operations.
        unrelaxed: see `lower_bounds`.

    Returns:
        (B, K - 1).

    Raises:
        ValueError: as `hf_warmup.bounds.margins`.
    """
    check_labels(labels, *logits.shape)
    labels = labels.long()
    batch, classes = logits.shape
    rivals = rivals_of(labels, classes)
    if isinstance(logits.provenance, Softmax):
        leads = linear_margins(logits.provenance.logits, labels, rules=rules, unrelaxed=unrelaxed)
        return of_probabilities(logits, leads, labels, rivals)
    rows = torch.zeros(classes - 1, batch, classes, dtype=logits.dtype, device=logits.device)
    rows.scatter_(2, labels.expand(classes - 1, -1)[:, :, None], 1.0)
    rows.scatter_(2, rivals.T[:, :, None], -1.0)
    return lower_bounds(logits, rows, rules=rules, unrelaxed=unrelaxed).T


def refiner(rules: LinearRules, *, budget: int = BUDGET) -> Callable[[Callable[..., Any], Interval], Interval]:
    """For `with_steps`: narrows the undecided units of what an activation takes, by linear bounds.

    Args:
        rules: linear bounds of operations.
        budget: numbers in the largest tensor of coefficients at once.
    """

    def refine(func: Callable[..., Any], x: Interval) -> Interval:
        undecided = UNDECIDED.get(func)
        if undecided is None or _is_exact(x):
            return x
        lower, upper = x.lower, x.upper
        chosen = undecided(lower, upper)
        if not bool(chosen.any()):
            return x
        ends = window_ends(x, chosen, rules, budget)
        lower, upper = _whole_ends(x, chosen.flatten(1), rules, budget) if ends is None else ends
        narrower = from_ends(x, x.clean, lower, torch.maximum(lower, upper))
        # The terms that its elements are sums of, and whose rounding is paid for, are no smaller than before.
        return replace(narrower, step=x.step, spent=x.spent, magnitude=x.magnitude)

    return refine


def _whole_ends(x: Interval, chosen: Tensor, rules: LinearRules, budget: int) -> tuple[Tensor, Tensor]:
    """The ends of x, those of chosen units, (B, D), narrowed by walks through whole layers."""
    lower, upper = x.lower, x.upper
    # Undecided units first, image by image; where an image has fewer than another, decided ones fill the rows.
    count = int(chosen.sum(1).max())
    units = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
    size = max(1, budget // max(1, 2 * max(sizes_behind(x))))
    ends = [_ends(x, some, rules) for some in torch.split(units, size, dim=1)]
    least, most = (torch.cat(each, 1) for each in zip(*ends, strict=True))
    lower = lower.flatten(1).scatter_reduce(1, units, least, "amax").view_as(lower)
    upper = upper.flatten(1).scatter_reduce(1, units, most, "amin").view_as(upper)
    return lower, upper


def sizes_behind(interval: Interval) -> list[int]:
    """Elements of an interval, and of each one on the way back to the input."""
    seen: set[int] = set()
    pending, sizes = [interval], []
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            sizes.append(one.numel())
            pending += [] if one.step is None else one.step.operands()
    return sizes


# Operations whose elements each come from one element of their input.
_ELEMENTWISE: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.batch_norm, F.dropout, torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view),
        *(torch.add, Tensor.add, torch.sub, Tensor.sub, torch.mul, Tensor.mul, torch.div, Tensor.div),
    ]
)


def _is_exact(x: Interval) -> bool:
    """Whether intervals lost nothing: from the input there came one operation at most that adds several elements."""
    mixing = 0
    while x.step is not None and x.step.func is not None:
        operands = x.step.operands()
        mixing += x.step.func not in _ELEMENTWISE
        if len(operands) != 1 or mixing > 1 or x.step.func in UNDECIDED:
            return False
        x = operands[0]
    return True


def _ends(x: Interval, units: Tensor, rules: LinearRules) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of some units of each image, (B, U) each, from their numbers (B, U)."""
    batch, count = units.shape
    rows = torch.zeros(2 * count, batch, x.center[0].numel(), dtype=x.dtype, device=x.device)
    rows[:count].scatter_(2, units.T[:, :, None], 1.0)
    rows[count:].scatter_(2, units.T[:, :, None], -1.0)
    found = lower_bounds(x, rows.view(2 * count, *x.shape), rules=rules)
    return found[:count].T, -found[count:].T
