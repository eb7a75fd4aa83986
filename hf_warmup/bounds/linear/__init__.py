"""Backward linear bounds: a second table of rules, over the steps that intervals remember when they are asked to.

What has no rule here is taken at its interval, which is sound and looser.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.linear.affine import affine, batch_norm, convolution, linear, log_softmax, product, quotient
from hf_warmup.bounds.linear.alpha import Slopes, alpha_margins, margins_with, storable
from hf_warmup.bounds.linear.backward import LinearRule, lower_bounds
from hf_warmup.bounds.linear.crown import linear_margins, refiner, sizes_behind, with_steps
from hf_warmup.bounds.linear.pooling import max_pool2d
from hf_warmup.bounds.linear.relaxations import clamped, clipped, leaky_relu, relaxed, relu, relu6
from hf_warmup.bounds.linear.s_shaped import sigmoid, tanh
from hf_warmup.bounds.rules import RULES
from hf_warmup.bounds.rules.spelling import spelled


__all__ = [
    "LINEAR_RULES",
    "Slopes",
    "alpha_margins",
    "linear_margins",
    "lower_bounds",
    "margins_with",
    "refiner",
    "sizes_behind",
    "storable",
    "with_steps",
]

# Affine in all that may be an interval; `detach` is not among them, as its gradient is not its matrix.
_AFFINE: tuple[Callable[..., Any], ...] = (
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.dropout, F.pad, F.interpolate, F.pixel_shuffle, F.pixel_unshuffle, F.fold, F.unfold),
    *(Tensor.__add__, Tensor.__radd__, Tensor.__sub__, Tensor.__getitem__, Tensor.to, Tensor.float, Tensor.double),
    *(Tensor.type_as, Tensor.view, Tensor.expand, Tensor.contiguous, Tensor.repeat, Tensor.unfold),
    *spelled("add", "sub", "subtract", "neg", "negative", "mean", "sum", "cumsum", "clone"),
    *spelled("flatten", "unflatten", "ravel", "reshape", "view_as", "reshape_as", "squeeze", "unsqueeze"),
    *spelled("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"),
    *spelled("flip", "fliplr", "flipud", "rot90", "roll", "channel_shuffle", "tril", "triu", "diagonal"),
    *spelled("chunk", "split", "tensor_split", "unbind", "narrow", "select", "index_select", "gather"),
    *spelled("take_along_dim", "tile", "repeat_interleave", "broadcast_to", "expand_as"),
    *spelled("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"),
)
_PRODUCTS = (
    *(Tensor.__mul__, Tensor.__rmul__, Tensor.__matmul__),
    *spelled("mul", "multiply", "matmul", "bmm", "mm", "mv", "addmm", "baddbmm"),
)

LINEAR_RULES: dict[Callable[..., Any], LinearRule] = {
    # Of the spellings those that have bounds at all.
    **dict.fromkeys([func for func in _AFFINE if func in RULES], affine),
    **dict.fromkeys([func for func in _PRODUCTS if func in RULES], product),
    **dict.fromkeys((Tensor.__truediv__, *spelled("div", "divide", "true_divide")), quotient),
    **dict.fromkeys((F.log_softmax, *spelled("log_softmax")), log_softmax),
    F.linear: linear,
    **dict.fromkeys((F.conv2d, torch.conv2d), convolution),
    F.batch_norm: batch_norm,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), relaxed(relu)),
    F.leaky_relu: relaxed(leaky_relu),
    F.hardtanh: relaxed(clamped),
    **dict.fromkeys(spelled("clamp", "clip"), relaxed(clipped)),
    F.relu6: relaxed(relu6),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid), relaxed(sigmoid)),
    **dict.fromkeys((torch.tanh, Tensor.tanh), relaxed(tanh)),
    F.max_pool2d: max_pool2d,
}
