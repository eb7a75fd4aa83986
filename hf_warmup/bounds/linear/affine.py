"""Rows through affine operations: multiplied by the operation's matrix, which its gradient does for any of them.

Rows are kept image by image, so an operation must not carry anything from one image to another. Those that may move or
join the first dimension are asked: rows of some images must give no coefficients for the others. What fails is taken
at its interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.exact import exactly
from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.linear.backward import Backward, extent, gamma, weighted
from hf_warmup.bounds.provenance import Step, replaced
from hf_warmup.bounds.rules.affine import channel_statistics, scale_and_shift
from hf_warmup.bounds.rules.spelling import spelled


# Operations that treat the first of so many dimensions (or more, for `linear`) as the batch.
_BATCHED: dict[Callable[..., Any], int] = {
    F.linear: 2,
    F.conv1d: 3,
    torch.conv1d: 3,
    F.conv2d: 4,
    torch.conv2d: 4,
    F.conv_transpose1d: 3,
    F.conv_transpose2d: 4,
    F.avg_pool2d: 4,
    F.adaptive_avg_pool1d: 3,
    F.adaptive_avg_pool2d: 4,
    F.batch_norm: 2,
}
# Operations whose result holds every number of their operand once, and no other.
_MOVING: frozenset[Callable[..., Any]] = frozenset(
    [
        *(Tensor.view, Tensor.contiguous),
        *spelled("clone", "flatten", "unflatten", "ravel", "reshape", "view_as", "reshape_as", "squeeze", "unsqueeze"),
        *spelled("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"),
        *spelled("flip", "fliplr", "flipud", "rot90", "roll"),
    ]
)
# Steps that were asked before, as CROWN walks them again and again.
SEPARATE: WeakKeyDictionary[Step, bool] = WeakKeyDictionary()


def affine(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of operations that are affine in all their intervals together.

    The matrix's transpose comes from autograd, the constant from the operation at zero.
    """
    leaves: list[Tensor] = []
    operands: list[Interval] = []

    def at_zero(x: Interval) -> Tensor:
        leaf = torch.zeros_like(x.center).requires_grad_()
        leaves.append(leaf)
        operands.append(x)
        return leaf

    differentiable = torch.is_grad_enabled()
    with torch.enable_grad(), exactly():
        assert step.func is not None
        outputs = step.func(*replaced(step.args, at_zero), **replaced(step.kwargs, at_zero))
        output = outputs if step.part is None else outputs[step.part]
        if not _is_separate(step, output, leaves):
            return None
        found = _transposed(output, leaves, rows, create_graph=differentiable)
    if not differentiable:
        output = output.detach()
    pairs = [(x, grad) for x, grad in zip(operands, found, strict=True) if grad is not None]
    if not differentiable and not bool(output.any()):
        constant = torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device)
    else:
        constant = weighted(rows, output)
    return Backward(pairs, constant, _rounding(step, result, rows))


def linear(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of `F.linear`: as `affine`, without a pass at zero."""
    weight, bias = (argument(step, place, name) for place, name in ((1, "weight"), (2, "bias")))
    x: Interval = step.operands()[0]
    if x.dim() < 2 or weight.dim() != 2:
        return affine(step, result, rows)
    shift = torch.zeros_like(result.center) if bias is None else bias.expand_as(result.center)
    return Backward([(x, rows @ weight)], weighted(rows, shift), _rounding(step, result, rows))


def convolution(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of `F.conv2d`: as `affine`, by one transposed convolution of all rows, in float32 with channels last."""
    found = _convolution(step, rows)
    if found is None:
        return affine(step, result, rows)
    return Backward(*found, _rounding(step, result, rows))


def _convolution(
    step: Step, rows: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
) -> tuple[list[tuple[Interval, Tensor]], Tensor] | None:
    """Rows through a convolution whose channels are then scaled and shifted, and what they add; None if it is unusual.

    Weights are scaled instead of rows, which are many times as large.
    """
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias, *rest = (argument(step, place, name) for place, name in enumerate(names, start=1))
    x: Interval = step.operands()[0]
    if x.dim() != 4 or isinstance(rest[1], str):
        return None
    defaults = (1, 0, 1, 1)
    stride, padding, dilation, groups = (
        default if given is None else given for given, default in zip(rest, defaults, strict=True)
    )
    stride, padding, dilation = (pair(value) for value in (stride, padding, dilation))
    # What a stride leaves over at the far end.
    more = [
        x.shape[side] - (rows.shape[side + 1] - 1) * step_ + 2 * pad - gap * (weight.shape[side] - 1) - 1
        for side, step_, pad, gap in zip((2, 3), stride, padding, dilation, strict=True)
    ]
    if scale is not None:
        weight = weight * scale.view(-1, 1, 1, 1)
        bias = shift if bias is None else shift + scale * bias
    merged = rows.flatten(0, 1)
    if rows.dtype == torch.float32:
        merged = merged.contiguous(memory_format=torch.channels_last)
    found = F.conv_transpose2d(merged, weight, None, stride, padding, more, groups, dilation)
    found = found.view(*rows.shape[:2], *found.shape[1:])
    if bias is None:
        constant = torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device)
    else:
        constant = torch.einsum("sbc,c->sb", rows.sum((3, 4)), bias)
    return [(x, found)], constant


def argument(step: Step, place: int, name: str, default: Any = None) -> Any:
    """What an operation was given at a place or by a name."""
    return step.args[place] if len(step.args) > place else step.kwargs.get(name, default)


def pair(value: Any) -> tuple[int, int]:
    """A setting of both sides of an image."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def product(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of products and matrix products: affine if one side is known exactly."""
    return affine(step, result, rows) if len(step.operands()) == 1 else None


def quotient(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of quotients: affine if the divisor is known exactly."""
    divisor = step.kwargs["other"] if "other" in step.kwargs else step.args[-1]
    return None if isinstance(divisor, Interval) else affine(step, result, rows)


def log_softmax(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of `F.log_softmax` for rows of differences: it takes the same number from all classes."""
    x: Interval = step.operands()[0]
    dim = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else None)
    if x.dim() != 2 or dim not in (1, -1) or x.dtype != result.dtype:
        return None
    # Sums of whole numbers are exact.
    whole = (rows == rows.round()) & (rows.abs() <= 2.0**20)
    if not bool(whole.all() & (rows.sum(2) == 0).all()):
        return None
    nothing = torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device)
    return Backward([(x, rows)], nothing)


def batch_norm(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """Rule of `F.batch_norm` in eval; in training, statistics of the clean batch are constants, as in its interval."""
    return _batch_norm(step, result, rows, *step.args, **step.kwargs)


def _batch_norm(
    step: Step,
    result: Interval,
    rows: Tensor,
    input: Interval,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Backward | None:
    mean, variance = channel_statistics(input, running_mean, running_var, training)
    scale, shift = scale_and_shift(mean, torch.rsqrt(variance + eps), weight, bias)
    if not result.rounding and input.step is not None and input.step.func in (F.conv2d, torch.conv2d):
        found = _convolution(input.step, rows, scale, shift)
        if found is not None:
            return Backward(*found)
    per_channel = [1, -1] + [1] * (input.dim() - 2)
    constant = weighted(rows, shift.view(per_channel).expand_as(input.center))
    return Backward([(input, rows * scale.view(per_channel))], constant, _rounding(step, result, rows))


def _transposed(
    output: Tensor, leaves: list[Tensor], rows: Tensor, *, create_graph: bool
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(
        output, leaves, rows, is_grads_batched=True, create_graph=create_graph, retain_graph=True, allow_unused=True
    )


def _is_separate(step: Step, output: Tensor, leaves: list[Tensor]) -> bool:
    """Whether rows of an image give coefficients of that image alone."""
    images = output.shape[0] if output.dim() else 0
    if any(leaf.dim() == 0 or leaf.shape[0] != images for leaf in leaves):
        return False
    if images == 1 or (step.func in _BATCHED and leaves[0].dim() >= _BATCHED[step.func]):
        return True
    if step not in SEPARATE:
        code = _code(images).to(output.device)
        shape = (len(code), *output.shape)
        probes = torch.rand(shape, dtype=output.dtype, device=output.device).add(0.5)
        probes = probes * code.view(*code.shape, *[1] * (output.dim() - 1))
        found = _transposed(output, leaves, probes, create_graph=False)
        SEPARATE[step] = all(
            bool((grad.flatten(2).ne(0).any(2) <= code).all()) if grad.dim() > 2 else bool((grad.ne(0) <= code).all())
            for grad in found
            if grad is not None
        )
    return SEPARATE[step]


def _code(images: int) -> Tensor:
    """Masks, (N, B), such that for any two images one mask holds the first without the second.

    Each image has a set of masks of its own, and all sets are of one size, so none contains another.
    """
    masks = next(n for n in itertools.count(2) if math.comb(n, n // 2) >= images)
    sets = itertools.islice(itertools.combinations(range(masks), masks // 2), images)
    code = torch.zeros(masks, images, dtype=torch.bool, device="cpu")
    for image, chosen in enumerate(sets):
        code[list(chosen), image] = True
    return code


def _rounding(step: Step, result: Interval, rows: Tensor) -> Tensor | None:
    """What the products with an operation's matrix may have taken, (S, B); None for nothing, or without `rounding`."""
    if not result.rounding or step.func in _MOVING:
        return None
    magnitude = extent(result) if result.magnitude is None else result.magnitude
    # No element of the operands is met by more terms than the result has elements, and the other way round.
    terms = result.center[0].numel() + sum(x.center[0].numel() for x in step.operands())
    return gamma(terms, result) * weighted(rows.abs(), magnitude)
