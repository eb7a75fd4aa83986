"""Backward linear bounds: a second table of rules, over the steps that intervals remember when they are asked to.

What has no rule here is taken at its interval, which is sound and looser.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.linear.affine import affine, batch_norm, product, quotient
from hf_warmup.bounds.linear.alpha import Slopes, alpha_margins, margins_with, storable
from hf_warmup.bounds.linear.backward import LinearRule, lower_bounds
from hf_warmup.bounds.linear.crown import linear_margins, refiner, with_steps
from hf_warmup.bounds.linear.pooling import max_pool2d
from hf_warmup.bounds.linear.relaxations import clamped, leaky_relu, relaxed, relu, relu6, sigmoid, tanh


__all__ = [
    "LINEAR_RULES",
    "Slopes",
    "alpha_margins",
    "linear_margins",
    "lower_bounds",
    "margins_with",
    "refiner",
    "storable",
    "with_steps",
]

_AFFINE: tuple[Callable[..., Any], ...] = (
    F.linear,
    F.conv1d,
    torch.conv1d,
    F.conv2d,
    torch.conv2d,
    torch.add,
    Tensor.add,
    Tensor.__add__,
    Tensor.__radd__,
    torch.sub,
    Tensor.sub,
    Tensor.__sub__,
    torch.neg,
    Tensor.neg,
    F.avg_pool2d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    torch.mean,
    Tensor.mean,
    F.dropout,
    torch.flatten,
    Tensor.flatten,
    torch.reshape,
    Tensor.reshape,
    Tensor.view,
    torch.permute,
    Tensor.permute,
    torch.transpose,
    Tensor.transpose,
    torch.squeeze,
    Tensor.squeeze,
    torch.unsqueeze,
    Tensor.unsqueeze,
    Tensor.expand,
    Tensor.contiguous,
    Tensor.chunk,
    torch.chunk,
    Tensor.split,
    Tensor.__getitem__,
    torch.flip,
    Tensor.flip,
    torch.unbind,
    Tensor.unbind,
    torch.split,
    torch.roll,
    Tensor.roll,
    Tensor.repeat,
    Tensor.unflatten,
    torch.swapaxes,
    Tensor.swapaxes,
    torch.narrow,
    Tensor.narrow,
    torch.index_select,
    Tensor.index_select,
    torch.movedim,
    Tensor.movedim,
    F.pixel_shuffle,
    F.pixel_unshuffle,
    torch.sum,
    Tensor.sum,
    Tensor.to,
    Tensor.float,
    Tensor.double,
    Tensor.type_as,
    torch.cat,
    torch.stack,
    F.pad,
    F.interpolate,
)
_PRODUCTS: tuple[Callable[..., Any], ...] = (
    torch.mul,
    Tensor.mul,
    Tensor.__mul__,
    Tensor.__rmul__,
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.bmm,
)

LINEAR_RULES: dict[Callable[..., Any], LinearRule] = {
    **dict.fromkeys(_AFFINE, affine),
    **dict.fromkeys(_PRODUCTS, product),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__), quotient),
    F.batch_norm: batch_norm,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), relaxed(relu)),
    F.leaky_relu: relaxed(leaky_relu),
    F.hardtanh: relaxed(clamped),
    F.relu6: relaxed(relu6),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid), relaxed(sigmoid)),
    **dict.fromkeys((torch.tanh, Tensor.tanh), relaxed(tanh)),
    F.max_pool2d: max_pool2d,
}
