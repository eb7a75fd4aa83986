"""Rows of an activation's outputs as rows of its inputs, by a line below it and one above; forward and backward.

Rows, S x B x D, are many times as large as lines, B x D, and neither pass does more than a few operations on each of
their elements. So rows are taken in blocks that stay in a core's cache between those operations, with all rows of an
image one after the other, which meet the same lines; and nothing of their size is kept but the rows themselves.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


# Elements of a block on a CPU: 1 MiB in float32.
_BLOCK = 2**18


def between(
    rows: Tensor,
    lower_slope: Tensor,
    lower_intercept: Tensor | None,
    upper_slope: Tensor,
    upper_intercept: Tensor,
) -> tuple[Tensor, Tensor]:
    """Coefficients of the inputs, of the rows' shape, and constants, (S, B).

    Args:
        rows: (S, B, *shape); what is positive takes the line below, the rest the one above.
        lower_slope: (B, *shape), or of the rows' shape, one for each row.
        lower_intercept: (B, *shape), or None for 0.
        upper_slope, upper_intercept: (B, *shape).
    """
    lines = lower_slope, lower_intercept, upper_slope, upper_intercept
    return _Between.apply(rows, *lines)  # type: ignore[no-untyped-call,no-any-return]


def _blocks(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Which rows of which images to take at a time."""
    count, images = rows.shape[:2]
    if rows.device.type != "cpu" or rows.numel() <= _BLOCK:
        yield slice(0, count), slice(0, images)
        return
    size = rows[0, 0].numel()
    some, few = max(1, _BLOCK // (count * size)), max(1, _BLOCK // size)
    for image in range(0, images, some):
        for row in range(0, count, few):
            yield slice(row, row + few), slice(image, image + some)


def _summed(terms: Tensor) -> Tensor:
    return terms.sum(tuple(range(2, terms.dim()))) if terms.dim() > 2 else terms


class _Between(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        lower_slope: Tensor,
        lower_intercept: Tensor | None,
        upper_slope: Tensor,
        upper_intercept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, lower_slope, lower_intercept, upper_slope, upper_intercept)
        each = lower_slope.dim() == rows.dim()
        # Beyond the line below, where rows are negative.
        turn = upper_slope - lower_slope
        lift = upper_intercept if lower_intercept is None else upper_intercept - lower_intercept
        coefficients, constant = torch.empty_like(rows), rows.new_empty(rows.shape[:2])
        for block in _blocks(rows):
            images = block if each else block[1]
            some = rows[block]
            below = some.clamp(max=0)
            torch.mul(some, lower_slope[images], out=coefficients[block]).addcmul_(below, turn[images])
            terms = below.mul_(lift[block[1]])
            if lower_intercept is not None:
                terms.addcmul_(some, lower_intercept[block[1]])
            constant[block] = _summed(terms)
        return coefficients, constant

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_constant: Tensor) -> Any:
        rows, *lines = ctx.saved_tensors
        lower_slope, lower_intercept, upper_slope, upper_intercept = lines
        each = lower_slope.dim() == rows.dim()
        turn = lower_slope - upper_slope
        lift = -upper_intercept if lower_intercept is None else lower_intercept - upper_intercept
        of_rows = torch.empty_like(rows)
        of_lines = [
            torch.zeros_like(line) if needed else None
            for line, needed in zip(lines, ctx.needs_input_grad[1:], strict=True)
        ]
        of_each = of_lines[0] if each else None
        grad_constant = grad_constant.view(*rows.shape[:2], *[1] * (rows.dim() - 2))
        for block in _blocks(rows):
            images, lines_of = block[1], block if each else block[1]
            some, g, c, found = rows[block], grad[block], grad_constant[block], of_rows[block]
            torch.mul(g, turn[lines_of], out=found).addcmul_(c, lift[images])
            torch.ops.aten.threshold_backward.grad_input(found, some, 0, grad_input=found)
            found.addcmul_(g, upper_slope[images]).addcmul_(c, upper_intercept[images])
            if of_each is not None:
                torch.mul(some.clamp(min=0), g, out=of_each[block])
            above = None if of_lines[1] is None and (each or of_lines[0] is None) else some.clamp(min=0)
            below = some.clamp(max=0)
            for of_line, part, factor in zip(of_lines, (above, above, below, below), (g, c, g, c), strict=True):
                if of_line is not None and of_line is not of_each:
                    of_line[images] += (part * factor).sum(0)
        return of_rows, *of_lines
