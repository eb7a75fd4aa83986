"""ReLU of an interval in one pass, which keeps nothing for the backward pass that the next layer does not keep too.

With h = relu((c + r) / 2) the result is `c' = max(c, h)` and `r' = min(r, h)`: an active unit (c > r) keeps center and
radius, an unstable one gets h for both, an inactive one 0. So `c' > r'` says exactly which units are active, and
`c' > 0` which are not inactive; the backward pass needs no other mask. Halving first keeps c + r from overflowing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.fast.blocks import Out, blockwise, check_first_order
from hf_warmup.bounds.interval import Interval


@dataclass(frozen=True)
class Moments:
    """What the warmup regularizers ask of a ReLU's input, each a scalar tensor.

    Attributes:
        radius: mean radius.
        active, inactive: sum of |center| over the units whose bounds are above, and below, 0.
        active_squares, inactive_squares: over the same units, sum of squared deviations from the mean center of all.
        both: whether there are units of both kinds.
    """

    radius: Tensor
    active: Tensor
    inactive: Tensor
    active_squares: Tensor
    inactive_squares: Tensor
    both: Tensor


def relu(input: Any, inplace: bool = False) -> Interval:
    """`F.relu`; leaves the `Moments` of its input on the tape, if there is one."""
    clean = F.relu(input.clean)
    if input.tape is None:
        center, radius = _Relu.apply(input.center, input.radius)  # type: ignore[no-untyped-call]
    else:
        center, radius, sums = _GatheringRelu.apply(input.center, input.radius)  # type: ignore[no-untyped-call]
        mean_radius, active, inactive, active_squares, inactive_squares, both = sums.unbind()
        input.tape.append(Moments(mean_radius, active, inactive, active_squares, inactive_squares, both > 0))
    if inplace:
        input.spent.append(True)
    return Interval(clean, center, radius, tape=input.tape, rules=input.rules)


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, center: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
        results = blockwise(_forward, center, radius, results=2)
        ctx.save_for_backward(*results)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        check_first_order()
        return blockwise(_backward, *grads, *ctx.saved_tensors, results=2)


def _forward(center: Tensor, radius: Tensor, *, out: Out) -> tuple[Tensor, Tensor]:
    half = (center * 0.5).add_(radius, alpha=0.5).relu_()
    return torch.maximum(center, half, out=out[0]), torch.minimum(radius, half, out=out[1])


def _backward(
    grad_center: Tensor, grad_radius: Tensor, new_center: Tensor, new_radius: Tensor, *, out: Out
) -> tuple[Tensor, Tensor]:
    half = torch.ops.aten.threshold_backward(torch.lerp(grad_center, grad_radius, 0.5), new_center, 0)
    active = (new_center - new_radius).sign_()
    return torch.lerp(half, grad_center, active, out=out[0]), torch.lerp(half, grad_radius, active, out=out[1])


class _GatheringRelu(torch.autograd.Function):
    """Also returns the moments as a vector, the last entry of which is 1 if there are units of both kinds.

    Backward needs the centers again: inactive ones are gone from the result. A unit whose upper bound is exactly 0
    counts as inactive.
    """

    @staticmethod
    def forward(ctx: Any, center: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
        mean = center.mean(dtype=torch.promote_types(center.dtype, torch.float32))
        found: list[Tensor] = []

        def step(center: Tensor, radius: Tensor, *, out: Out) -> tuple[Tensor, Tensor]:
            results = _forward(center, radius, out=out)
            found.append(_sums(center, radius, *results, mean))
            return results

        results = blockwise(step, center, radius, results=2)
        total = torch.stack(found).sum(0) if len(found) > 1 else found[0]
        radii, active, inactive, active_squares, inactive_squares, num_active, num_inactive = total.unbind()
        both = ((num_active > 0) & (num_inactive > 0)).to(total.dtype)
        moments = torch.stack(
            [
                radii / center.numel(),
                active + mean * num_active,
                -(inactive + mean * num_inactive),
                active_squares,
                inactive_squares,
                both,
            ]
        )
        ctx.save_for_backward(center, *results, mean, total)
        return *results, moments

    @staticmethod
    def backward(ctx: Any, grad_center: Tensor, grad_radius: Tensor, grad_moments: Tensor) -> Any:
        check_first_order()
        center, new_center, new_radius, mean, total = ctx.saved_tensors
        _, active, inactive, _, _, _, _ = total.unbind()
        of_radius, of_active, of_inactive, of_active_squares, of_inactive_squares, _ = grad_moments.unbind()
        each = 1.0 / center.numel()
        # The mean is a function of all centers, too.
        of_mean = -2.0 * each * (of_active_squares * active + of_inactive_squares * inactive)

        def step(
            grad_center: Tensor,
            grad_radius: Tensor,
            center: Tensor,
            new_center: Tensor,
            new_radius: Tensor,
            *,
            out: Out,
        ) -> tuple[Tensor, Tensor]:
            of_center, of_new_radius = _backward(grad_center, grad_radius, new_center, new_radius, out=out)
            active, inactive = _kinds(center, new_center, new_radius)
            deviation = (center - mean).mul_(2.0)
            of_center.add_(of_mean).addcmul_(active, deviation * of_active_squares + of_active)
            of_center.addcmul_(inactive, deviation.mul_(of_inactive_squares).sub_(of_inactive))
            return of_center, of_new_radius.add_(of_radius * each)

        return blockwise(step, grad_center, grad_radius, center, new_center, new_radius, results=2)


def _kinds(center: Tensor, new_center: Tensor, new_radius: Tensor) -> tuple[Tensor, Tensor]:
    """1 where a unit is active, and 1 where it is inactive; 0 elsewhere. Numbers are quicker than truth values."""
    active = (new_center - new_radius).sign_()
    return active, new_center.sign().add_(center.sign()).neg_().relu_()


def _sums(center: Tensor, radius: Tensor, new_center: Tensor, new_radius: Tensor, mean: Tensor) -> Tensor:
    """(7,): sum of radii; of deviations from the mean over active and inactive units; of squares; their counts."""
    dtype = mean.dtype
    deviation = center - mean
    kinds = _kinds(center, new_center, new_radius)
    parts = [deviation * kind for kind in kinds]
    totals = [part.sum(dtype=dtype) for part in (radius, *parts)]
    squares = [torch.linalg.vector_norm(part, dtype=dtype).square() for part in parts]
    return torch.stack([*totals, *squares, *(kind.sum(dtype=dtype) for kind in kinds)])
