"""Linear layers of many weights: what has the weights' size is made as seldom as can be, and summed where it lies."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.fast.blockwise import check_first_order
from hf_warmup.bounds.interval import Interval
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules import affine as plain


# Elements of the weights whose signs are held at once.
_PIECE = 2**18


def linear(input: Any, weight: Any, bias: Any = None) -> Interval:
    """`F.linear`; the result remembers where it came from."""
    plain.check_only_first(input, weight, bias)
    if weight.dim() != 2 or torch.is_autocast_enabled(input.device.type):
        return plain.linear(input, weight, bias)
    parts = (input.clean, input.center, input.radius, weight, bias)
    clean, center, radius = _Linear.apply(*parts)  # type: ignore[no-untyped-call]
    return Interval(clean, center, radius, Affine(input, weight, bias), tape=input.tape, rules=input.rules)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, clean: Tensor, center: Tensor, radius: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        magnitudes = weight.abs()
        ctx.save_for_backward(clean, center, radius, weight, magnitudes)
        return F.linear(clean, weight, bias), F.linear(center, weight, bias), F.linear(radius, magnitudes)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        check_first_order()
        *inputs, weight, magnitudes = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        factors = (weight, weight, magnitudes)
        of_inputs = [g @ w if want else None for g, w, want in zip(grads, factors, wanted[:3], strict=True)]
        of_weight = None
        if wanted[3]:
            flat = [(g.flatten(0, -2).t(), x.flatten(0, -2)) for g, x in zip(grads, inputs, strict=True)]
            of_weight = flat[2][0] @ flat[2][1]
            rows = len(weight) if torch.compiler.is_compiling() else max(1, _PIECE // weight.shape[1])
            for gradient, part in zip(of_weight.split(rows), weight.split(rows), strict=True):
                gradient.mul_(part.sgn())
            of_weight.addmm_(*flat[1]).addmm_(*flat[0])
        of_bias = sum(g.flatten(0, -2).sum(0) for g in grads[:2]) if wanted[4] else None
        return *of_inputs, of_weight, of_bias
