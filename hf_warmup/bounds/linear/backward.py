"""Lower bounds on sums of an interval's elements, by walking linear bounds back to the input.

A row is a set of coefficients `A`, one for each element of an interval `y`. Wherever `y = f(x)`, `A y >= A' x + c` for
all `x` that `f` can meet: exactly for affine `f`, by a line below and one above for activations. The walk ends at the
input, or at whatever has no linear bound, where the least value over the box is taken. Source: Zhang et al., CROWN,
arXiv 1811.00866; Zhang et al., CROWN-IBP, arXiv 1906.06316.

With `rounding` every step pays for its own rounding at once, from the box that its operands lie in: the error of
computed coefficients is at most gamma |A| |W|, which moves the sum by no more than gamma |A| M, where M bounds the sum
of absolute terms of each element. So every computed row is a valid bound in exact arithmetic.

Shape letters: S rows an image, B images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.provenance import Step


@dataclass(frozen=True)
class Backward:
    """What a rule makes of rows: coefficients for each operand, and constants.

    Attributes:
        operands: pairs of an interval and its coefficients, (S, B, *shape).
        constant: (S, B).
        slack: what the rule's own rounding may have taken, (S, B); None for nothing.
    """

    operands: list[tuple[Interval, Tensor]]
    constant: Tensor
    slack: Tensor | None = None


# (step, its result, coefficients of the result) -> Backward, or None where this use has no linear bound.
LinearRule = Callable[[Step, Interval, Tensor], Backward | None]
LinearRules = Mapping[Callable[..., object], LinearRule]


@dataclass
class _Walk:
    pending: dict[int, tuple[Interval, Tensor]] = field(default_factory=dict)
    constant: Tensor | float = 0.0
    # The sum of absolute values of what `constant` is the sum of, for its own rounding.
    absolute: Tensor | float = 0.0
    slack: Tensor | float = 0.0

    def add(self, interval: Interval, rows: Tensor) -> None:
        key = id(interval)
        if key in self.pending:
            rows = self.pending[key][1] + rows
            if interval.rounding:
                self.slack = self.slack + gamma(2, interval) * weighted(rows.abs(), extent(interval))
        self.pending[key] = interval, rows

    def pay(self, constant: Tensor, slack: Tensor | None) -> None:
        self.constant = self.constant + constant
        if slack is not None:
            self.absolute = self.absolute + constant.abs()
            self.slack = self.slack + slack


def gamma(roundings: float, like: Interval) -> float:
    """Relative error of so many roundings one after the other, gamma_n = n u / (1 - n u), with some to spare."""
    n = (roundings + 8) * like.rounding
    return n / (1.0 - 2.0 * n)


def extent(interval: Interval) -> Tensor:
    """The greatest absolute value of each element."""
    return interval.center.abs() + interval.radius


def weighted(rows: Tensor, values: Tensor) -> Tensor:
    """Sums over an image's elements, (S, B), of rows (S, B, *shape) times values (B, *shape)."""
    if rows.dim() == 2:
        return rows * values
    if rows.dim() == 5 and rows.stride(2) == 1:
        # Channels last: flattened as they lie.
        rows, values = rows.permute(0, 1, 3, 4, 2), values.permute(0, 2, 3, 1)
    return torch.einsum("sbd,bd->sb", rows.flatten(2), values.flatten(1))


def lower_bounds(target: Interval, rows: Tensor, *, rules: LinearRules, unrelaxed: set[str] | None = None) -> Tensor:
    """Lower bounds, over the whole input box, on sums of an interval's elements.

    Args:
        target: an interval with a `step`, (B, *shape).
        rows: coefficients, (S, B, *shape).
        rules: linear bounds of operations; the rest is taken at its interval.
        unrelaxed: takes the names of operations that were.

    Returns:
        (S, B); rounded down where the interval has `rounding` set.
    """
    walk = _Walk()
    walk.add(target, rows)
    while walk.pending:
        interval, rows = walk.pending.pop(max(walk.pending, key=lambda key: _depth(walk.pending[key][0])))
        step = interval.step
        rule = None if step is None or step.func is None else rules.get(step.func)
        found = None if rule is None or step is None else rule(step, interval, rows)
        if found is None:
            if unrelaxed is not None and step is not None and step.func is not None:
                unrelaxed.add(getattr(step.func, "__name__", str(step.func)))
            found = _least(interval, rows)
        walk.pay(found.constant, found.slack)
        for operand, coefficients in found.operands:
            walk.add(operand, coefficients)
    total = walk.constant
    if target.rounding:
        total = total - (1.0 + 64.0 * target.rounding) * (walk.slack + gamma(1024, target) * walk.absolute)
    assert isinstance(total, Tensor)
    return total


def _depth(interval: Interval) -> int:
    return -1 if interval.step is None else interval.step.depth


def _least(interval: Interval, rows: Tensor) -> Backward:
    """The least value over the interval itself."""
    size = rows.abs()
    constant = weighted(rows, interval.center) - weighted(size, interval.radius)
    slack = None
    if interval.rounding:
        slack = gamma(interval.center[0].numel() + 2, interval) * weighted(size, extent(interval))
    return Backward([], constant, slack)
