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

from hf_warmup.bounds.fast.blockwise import Places, blockwise, check_first_order
from hf_warmup.bounds.fast.folding import Unbounded
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
    if inplace:
        input.spent.append(True)
    if input.tape is None and isinstance(input, Unbounded) and (own := input.only_copy()) is not None:
        clean, center, radius = own
        blockwise(_forward, center, radius, results=2, scratch=1, into=(center, radius))
        return Interval(clean.relu_(), center, radius, rules=input.rules)
    clean = F.relu(input.clean)
    if input.tape is None:
        center, radius = _Relu.apply(input.center, input.radius)  # type: ignore[no-untyped-call]
    else:
        center, radius, sums = _GatheringRelu.apply(input.center, input.radius)  # type: ignore[no-untyped-call]
        mean_radius, active, inactive, active_squares, inactive_squares, both = sums.unbind()
        input.tape.append(Moments(mean_radius, active, inactive, active_squares, inactive_squares, both > 0))
    return Interval(clean, center, radius, tape=input.tape, rules=input.rules)


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, center: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
        results = blockwise(_forward, center, radius, results=2, scratch=1)
        ctx.save_for_backward(*results)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        check_first_order()
        return blockwise(_backward, *grads, *ctx.saved_tensors, results=2, scratch=3)


def _forward(center: Tensor, radius: Tensor, *, out: Places, scratch: Places) -> tuple[Tensor, Tensor]:
    half = torch.mul(center, 0.5, out=scratch[0]).add_(radius, alpha=0.5).relu_()
    return torch.maximum(center, half, out=out[0]), torch.minimum(radius, half, out=out[1])


def _backward(
    grad_center: Tensor, grad_radius: Tensor, new_center: Tensor, new_radius: Tensor, *, out: Places, scratch: Places
) -> tuple[Tensor, Tensor]:
    mean = torch.lerp(grad_center, grad_radius, 0.5, out=scratch[0])
    half = _where_positive(new_center, mean, scratch[1])
    active = _active(new_center, new_radius, scratch[2])
    return torch.lerp(half, grad_center, active, out=out[0]), torch.lerp(half, grad_radius, active, out=out[1])


def _where_positive(condition: Tensor, values: Tensor, out: Tensor | None) -> Tensor:
    """The values where the condition is positive, and 0 elsewhere."""
    if out is None:
        return torch.ops.aten.threshold_backward(values, condition, 0)  # type: ignore[no-any-return]
    return torch.ops.aten.threshold_backward.grad_input(  # type: ignore[no-any-return]
        values, condition, 0, grad_input=out
    )


def _active(new_center: Tensor, new_radius: Tensor, out: Tensor | None) -> Tensor:
    """1 where a unit is active, 0 elsewhere. Numbers are quicker than truth values."""
    return torch.sub(new_center, new_radius, out=out).sign_()


def _inactive(center: Tensor, new_center: Tensor, out: Tensor | None, scratch: Tensor | None) -> Tensor:
    """1 where a unit is inactive, 0 elsewhere."""
    return torch.sign(new_center, out=out).add_(torch.sign(center, out=scratch)).neg_().relu_()


class _GatheringRelu(torch.autograd.Function):
    """Also returns the moments as a vector, the last entry of which is 1 if there are units of both kinds.

    Backward needs the centers again: inactive ones are gone from the result. A unit whose upper bound is exactly 0
    counts as inactive.
    """

    @staticmethod
    def forward(ctx: Any, center: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
        mean = center.mean(dtype=torch.promote_types(center.dtype, torch.float32))
        found: list[Tensor] = []

        def step(center: Tensor, radius: Tensor, *, out: Places, scratch: Places) -> tuple[Tensor, Tensor]:
            results = _forward(center, radius, out=out, scratch=scratch)
            found.append(_sums(center, radius, *results, mean, scratch))
            return results

        results = blockwise(step, center, radius, results=2, scratch=3)
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
            out: Places,
            scratch: Places,
        ) -> tuple[Tensor, Tensor]:
            grads = grad_center, grad_radius, new_center, new_radius
            of_center, of_new_radius = _backward(*grads, out=out, scratch=scratch)
            deviation = torch.sub(center, mean, out=scratch[0])
            active = _active(new_center, new_radius, scratch[1])
            slope = torch.mul(deviation, 2.0 * of_active_squares, out=scratch[2]).add_(of_active)
            of_center.add_(of_mean).addcmul_(active, slope)
            inactive = _inactive(center, new_center, scratch[1], scratch[2])
            slope = torch.mul(deviation, 2.0 * of_inactive_squares, out=scratch[2]).sub_(of_inactive)
            return of_center.addcmul_(inactive, slope), of_new_radius.add_(of_radius * each)

        tensors = grad_center, grad_radius, center, new_center, new_radius
        return blockwise(step, *tensors, results=2, scratch=3)


def _sums(
    center: Tensor, radius: Tensor, new_center: Tensor, new_radius: Tensor, mean: Tensor, scratch: Places
) -> Tensor:
    """(7,): sum of radii; of deviations from the mean over active and inactive units; of squares; their counts."""
    dtype = mean.dtype
    deviation = torch.sub(center, mean, out=scratch[0])
    # One after the other, in the same place.
    active = _sums_of(_active(new_center, new_radius, scratch[1]), deviation, dtype)
    inactive = _sums_of(_inactive(center, new_center, scratch[1], scratch[2]), deviation, dtype)
    each = [total for kinds in zip(active, inactive, strict=True) for total in kinds]
    return torch.stack([radius.sum(dtype=dtype), *each])


def _sums_of(kind: Tensor, deviation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and sum of squares of the deviations of one kind of units, and how many there are; `kind` is used up."""
    count = kind.sum(dtype=dtype)
    part = kind.mul_(deviation)
    return part.sum(dtype=dtype), torch.linalg.vector_norm(part, dtype=dtype).square(), count
