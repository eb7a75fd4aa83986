"""The table: which rule bounds which torch operation. What is not in it raises.

Soundness of every entry is tested by sampling, at corners and by gradient search in float64; an entry without a case
fails its test.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds import affine_rules as affine
from hf_warmup.bounds import other_rules as other
from hf_warmup.bounds.interval import UnsupportedOperation


Rule = Callable[..., Any]


def _pooled(input: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> int:
    sides = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,)
    return int(sides[0]) * int(sides[-1])


def _avg_pool2d(input: Any, *args: Any, **kwargs: Any) -> Any:
    divisor = args[5] if len(args) > 5 else kwargs.get("divisor_override")
    if divisor is not None and divisor < 0:
        raise UnsupportedOperation(f"avg_pool2d with divisor_override={divisor} has no rule")
    return affine.average(F.avg_pool2d, _pooled)(input, *args, **kwargs)


def _all(input: Any, *args: Any, **kwargs: Any) -> int:
    return int(input.numel())


_RELU = other.monotone(F.relu, taped=True)
_GELU = other.one_minimum(F.gelu, place=-0.7518, least=-0.17005)
_SILU = other.one_minimum(F.silu, place=-1.2785, least=-0.27847)
_SIGMOID, _TANH = other.monotone(torch.sigmoid), other.monotone(torch.tanh)

RULES: dict[Callable[..., Any], Rule] = {
    # affine
    F.linear: affine.linear,
    F.conv1d: affine.convolution(F.conv1d),
    torch.conv1d: affine.convolution(F.conv1d),
    F.conv2d: affine.convolution(F.conv2d),
    torch.conv2d: affine.convolution(F.conv2d),
    F.batch_norm: affine.batch_norm,
    torch.add: affine.add,
    Tensor.add: affine.add,
    Tensor.__add__: affine.add,
    Tensor.__radd__: affine.add,
    torch.sub: affine.sub,
    Tensor.sub: affine.sub,
    Tensor.__sub__: affine.sub,
    Tensor.__rsub__: lambda input, other: affine.sub(other, input),
    torch.neg: affine.neg,
    Tensor.neg: affine.neg,
    torch.mul: affine.mul,
    Tensor.mul: affine.mul,
    Tensor.__mul__: affine.mul,
    Tensor.__rmul__: affine.mul,
    torch.div: affine.div,
    Tensor.div: affine.div,
    Tensor.__truediv__: affine.div,
    torch.matmul: affine.matmul,
    Tensor.matmul: affine.matmul,
    Tensor.__matmul__: affine.matmul,
    torch.bmm: affine.matmul,
    F.avg_pool2d: _avg_pool2d,
    F.adaptive_avg_pool1d: affine.average(F.adaptive_avg_pool1d, _all),
    F.adaptive_avg_pool2d: affine.average(F.adaptive_avg_pool2d, _all),
    torch.mean: affine.average(torch.mean, _all),
    Tensor.mean: affine.average(torch.mean, _all),
    # elementwise
    F.relu: _RELU,
    torch.relu: _RELU,
    Tensor.relu: _RELU,
    F.leaky_relu: other.leaky_relu,
    F.hardtanh: other.monotone(F.hardtanh),
    F.relu6: other.monotone(F.relu6),
    torch.sigmoid: _SIGMOID,
    Tensor.sigmoid: _SIGMOID,
    torch.tanh: _TANH,
    Tensor.tanh: _TANH,
    F.gelu: _GELU,
    F.silu: _SILU,
    F.dropout: other.dropout,
    # over several elements
    F.max_pool2d: other.max_pool(F.max_pool2d),
    F.adaptive_max_pool2d: other.max_pool(F.adaptive_max_pool2d),
    F.layer_norm: other.layer_norm,
    F.softmax: other.softmax,
    torch.softmax: other.softmax,
    Tensor.softmax: other.softmax,
    F.scaled_dot_product_attention: other.attention,
    # shape
    torch.flatten: other.same_shape_change(torch.flatten),
    Tensor.flatten: other.same_shape_change(torch.flatten),
    torch.reshape: other.same_shape_change(torch.reshape),
    Tensor.reshape: other.same_shape_change(Tensor.reshape),
    Tensor.view: other.same_shape_change(Tensor.reshape),
    torch.permute: other.same_shape_change(torch.permute),
    Tensor.permute: other.same_shape_change(Tensor.permute),
    torch.transpose: other.same_shape_change(torch.transpose),
    Tensor.transpose: other.same_shape_change(torch.transpose),
    torch.squeeze: other.same_shape_change(torch.squeeze),
    Tensor.squeeze: other.same_shape_change(torch.squeeze),
    torch.unsqueeze: other.same_shape_change(torch.unsqueeze),
    Tensor.unsqueeze: other.same_shape_change(torch.unsqueeze),
    Tensor.expand: other.same_shape_change(Tensor.expand),
    Tensor.contiguous: other.same_shape_change(Tensor.contiguous),
    Tensor.chunk: other.same_shape_change(Tensor.chunk),
    torch.chunk: other.same_shape_change(torch.chunk),
    Tensor.split: other.same_shape_change(Tensor.split),
    Tensor.__getitem__: other.same_shape_change(Tensor.__getitem__),
    Tensor.to: other.convert(Tensor.to),
    Tensor.float: other.convert(Tensor.float),
    Tensor.double: other.convert(Tensor.double),
    Tensor.type_as: other.convert(Tensor.type_as),
    torch.cat: other.joined(torch.cat),
    torch.stack: other.joined(torch.stack),
    F.pad: other.pad,
    F.interpolate: other.interpolate,
}
