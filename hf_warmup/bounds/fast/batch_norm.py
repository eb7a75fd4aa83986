"""Batch normalization of the clean tensor, with its statistics taken once and differentiable."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.fast.blockwise import check_first_order
from hf_warmup.bounds.rules.affine import scale_and_shift


def normalized(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`F.batch_norm` of x, (B, C, ...), and the scale and shift that it applies to each channel, (C,) each."""
    taken = training or running_mean is None or running_var is None
    count = x.numel() // x.shape[1]
    if taken and count > 1 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        parts = (x, weight, bias, running_mean, running_var, momentum, eps)
        clean, mean, inverse = _BatchNorm.apply(*parts)  # type: ignore[no-untyped-call]
    else:
        clean = F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        if taken:
            over = [d for d in range(x.dim()) if d != 1]
            variance, mean = torch.var_mean(x, over, correction=0)
        else:
            mean, variance = running_mean, running_var  # type: ignore[assignment]
        inverse = torch.rsqrt(variance + eps)
    return clean, *scale_and_shift(mean, inverse, weight, bias)


class _BatchNorm(torch.autograd.Function):
    """Torch's own, whose mean and inverse deviation may be differentiated as well."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        clean, mean, inverse = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps, ctx.has_bias = eps, bias is not None
        return clean, mean, inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_mean: Tensor, grad_inverse: Tensor) -> Any:
        check_first_order()
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = [True, weight is not None, ctx.has_bias]
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, True, ctx.eps, wanted
        )
        # d mean / d x_i = 1 / n and d inverse / d x_i = -inverse^3 (x_i - mean) / n.
        per_channel = [1, -1] + [1] * (x.dim() - 2)
        count = x.numel() // x.shape[1]
        slope = -grad_inverse * inverse**3 / count
        offset = grad_mean / count - slope * mean
        of_x = of_x.addcmul_(x, slope.view(per_channel)).add_(offset.view(per_channel))
        return of_x, of_weight if wanted[1] else None, of_bias if wanted[2] else None, None, None, None, None
