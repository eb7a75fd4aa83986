"""Rows of an activation's outputs as rows of its inputs, by a line below it and one above; forward and backward.

A row of size S x B x D is many times as large as the lines, B x D, and neither pass does more than a few operations on
each of its elements. So rows are taken a few at a time, which stay in a core's cache between those operations, and
nothing of their size is kept but the rows themselves.
"""

from typing import Any

import torch
from torch import Tensor


# Elements of the rows that are taken at a time on a CPU: 2 MiB in float32.
_BLOCK = 2**19


def between(
    rows: Tensor, lower_slope: Tensor, lower_intercept: Tensor, upper_slope: Tensor, upper_intercept: Tensor
) -> tuple[Tensor, Tensor]:
    """Coefficients of the inputs, of the rows' shape, and constants, (S, B).

    Args:
        rows: (S, B, *shape); what is positive takes the line below, the rest the one above.
        lower_slope: (B, *shape), or of the rows' shape, one for each row.
        lower_intercept, upper_slope, upper_intercept: (B, *shape).
    """
    lines = lower_slope, lower_intercept, upper_slope, upper_intercept
    return _Between.apply(rows, *lines)  # type: ignore[no-untyped-call,no-any-return]


def _few(rows: Tensor, *others: Tensor) -> Any:
    """A few rows at a time, with the same ones of others that have as many."""
    size = len(rows)
    if rows.device.type == "cpu":
        size = min(size, max(1, _BLOCK // max(1, rows[0].numel())))
    return zip(*(torch.split(part, size) for part in (rows, *others)), strict=True)


def _expanded(slope: Tensor, rows: Tensor) -> Tensor:
    return slope if slope.dim() == rows.dim() else slope.expand(rows.shape)


class _Between(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        lower_slope: Tensor,
        lower_intercept: Tensor,
        upper_slope: Tensor,
        upper_intercept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, lower_slope, lower_intercept, upper_slope, upper_intercept)
        # Above the upper line alone, so that few operations go over the rows.
        turn, lift = _expanded(lower_slope - upper_slope, rows), lower_intercept - upper_intercept
        coefficients, constants = torch.empty_like(rows), []
        for some, turns, found in _few(rows, turn, coefficients):
            above = some.clamp(min=0)
            torch.mul(some, upper_slope, out=found).addcmul_(above, turns)
            terms = above.mul_(lift).addcmul_(some, upper_intercept)
            constants.append(terms.sum(tuple(range(2, terms.dim()))) if terms.dim() > 2 else terms)
        return coefficients, torch.cat(constants)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_constant: Tensor) -> Any:
        rows, lower_slope, lower_intercept, upper_slope, upper_intercept = ctx.saved_tensors
        each = lower_slope.dim() == rows.dim()
        turn, lift = _expanded(lower_slope - upper_slope, rows), lower_intercept - upper_intercept
        of_rows = torch.empty_like(rows)
        of_lower_slope, of_lower, of_slope, of_upper = (
            torch.zeros_like(line) if needed else None
            for line, needed in zip(ctx.saved_tensors[1:], ctx.needs_input_grad[1:], strict=True)
        )
        of_lowers = of_lower_slope if each and of_lower_slope is not None else rows
        constant = grad_constant.view(*rows.shape[:2], *[1] * (rows.dim() - 2))
        for some, turns, found, g, c, lowers in _few(rows, turn, of_rows, grad, constant, of_lowers):
            torch.mul(g, turns, out=found).addcmul_(c, lift)
            torch.ops.aten.threshold_backward.grad_input(found, some, 0, grad_input=found)
            found.addcmul_(g, upper_slope).addcmul_(c, upper_intercept)
            above = some.clamp(min=0)
            below = some - above
            if each and of_lower_slope is not None:
                torch.mul(above, g, out=lowers)
            for of_line, part, factor in (
                (None if each else of_lower_slope, above, g),
                (of_lower, above, c),
                (of_slope, below, g),
                (of_upper, below, c),
            ):
                if of_line is not None:
                    _add_products(of_line, part, factor)
        return of_rows, of_lower_slope, of_lower, of_slope, of_upper


def _add_products(total: Tensor, rows: Tensor, factors: Tensor) -> None:
    if len(rows) == 1:
        total.addcmul_(rows[0], factors[0])
    else:
        total.add_((rows * factors).sum(0))
