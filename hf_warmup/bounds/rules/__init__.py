"""The table: which rule bounds which torch operation. What is not in it raises.

Soundness of every entry is tested by sampling, at corners and by gradient search in float64; an entry without a case
fails its test.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import RULES, UnsupportedOperation
from hf_warmup.bounds.rules import affine, attention, elementwise, products, reductions, shape


__all__ = ["RULES"]


def _pooled(input: Any, kernel_size: Any, *args: Any, **kwargs: Any) -> int:
    sides = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,)
    return int(sides[0]) * int(sides[-1])


def _avg_pool2d(input: Any, *args: Any, **kwargs: Any) -> Any:
    divisor = args[5] if len(args) > 5 else kwargs.get("divisor_override")
    if divisor is not None and divisor < 0:
        raise UnsupportedOperation(f"avg_pool2d with divisor_override={divisor} has no rule")
    return reductions.average(F.avg_pool2d, _pooled)(input, *args, **kwargs)


def _places(dimensions: int) -> Any:
    """No window of an adaptive pool holds more than all places of an image's channel."""
    return lambda input, *args, **kwargs: math.prod(input.shape[-dimensions:])


_RELU = elementwise.monotone(F.relu, taped=True)
_SILU = elementwise.one_minimum(F.silu, place=-1.2784645428, least=-0.2784645427610738)
_SIGMOID, _TANH = elementwise.monotone(torch.sigmoid), elementwise.monotone(torch.tanh)

RULES.update(
    {
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
        torch.mul: products.mul,
        Tensor.mul: products.mul,
        Tensor.__mul__: products.mul,
        Tensor.__rmul__: products.mul,
        torch.square: products.square,
        Tensor.square: products.square,
        torch.reciprocal: products.reciprocal,
        Tensor.reciprocal: products.reciprocal,
        torch.div: products.div,
        Tensor.div: products.div,
        Tensor.__truediv__: products.div,
        torch.matmul: products.matmul,
        Tensor.matmul: products.matmul,
        Tensor.__matmul__: products.matmul,
        torch.bmm: products.matmul,
        F.avg_pool2d: _avg_pool2d,
        F.adaptive_avg_pool1d: reductions.average(F.adaptive_avg_pool1d, _places(1)),
        F.adaptive_avg_pool2d: reductions.average(F.adaptive_avg_pool2d, _places(2)),
        torch.mean: reductions.average(torch.mean),
        Tensor.mean: reductions.average(torch.mean),
        # elementwise
        F.relu: _RELU,
        torch.relu: _RELU,
        Tensor.relu: _RELU,
        F.leaky_relu: elementwise.leaky_relu,
        F.hardtanh: elementwise.monotone(F.hardtanh),
        F.relu6: elementwise.monotone(F.relu6),
        torch.sigmoid: _SIGMOID,
        Tensor.sigmoid: _SIGMOID,
        torch.tanh: _TANH,
        Tensor.tanh: _TANH,
        F.gelu: elementwise.gelu,
        F.silu: _SILU,
        F.dropout: elementwise.dropout,
        # over several elements
        F.max_pool2d: reductions.max_pool(F.max_pool2d),
        F.adaptive_max_pool2d: reductions.max_pool(F.adaptive_max_pool2d),
        F.layer_norm: reductions.layer_norm,
        F.log_softmax: reductions.log_softmax,
        torch.log_softmax: reductions.log_softmax,
        Tensor.log_softmax: reductions.log_softmax,
        F.group_norm: reductions.group_norm,
        torch.clamp: elementwise.clamp,
        Tensor.clamp: elementwise.clamp,
        F.softmax: reductions.softmax,
        torch.softmax: reductions.softmax,
        Tensor.softmax: reductions.softmax,
        F.scaled_dot_product_attention: attention.attention,
        # shape
        torch.flatten: shape.same_shape_change(torch.flatten, in_order=True),
        Tensor.flatten: shape.same_shape_change(torch.flatten, in_order=True),
        torch.reshape: shape.same_shape_change(torch.reshape, in_order=True),
        Tensor.reshape: shape.same_shape_change(Tensor.reshape, in_order=True),
        Tensor.view: shape.same_shape_change(Tensor.reshape, in_order=True),
        torch.permute: shape.same_shape_change(torch.permute),
        Tensor.permute: shape.same_shape_change(Tensor.permute),
        torch.transpose: shape.same_shape_change(torch.transpose),
        Tensor.transpose: shape.same_shape_change(torch.transpose),
        torch.squeeze: shape.same_shape_change(torch.squeeze, in_order=True),
        Tensor.squeeze: shape.same_shape_change(torch.squeeze, in_order=True),
        torch.unsqueeze: shape.same_shape_change(torch.unsqueeze),
        Tensor.unsqueeze: shape.same_shape_change(torch.unsqueeze),
        Tensor.expand: shape.same_shape_change(Tensor.expand, in_order=True),
        Tensor.contiguous: shape.same_shape_change(Tensor.contiguous, in_order=True),
        Tensor.chunk: shape.same_shape_change(Tensor.chunk),
        torch.chunk: shape.same_shape_change(torch.chunk),
        Tensor.split: shape.same_shape_change(Tensor.split),
        Tensor.__getitem__: shape.item,
        Tensor.to: shape.convert(Tensor.to),
        Tensor.float: shape.convert(Tensor.float),
        Tensor.double: shape.convert(Tensor.double),
        Tensor.type_as: shape.convert(Tensor.type_as),
        torch.flip: shape.same_shape_change(torch.flip),
        Tensor.flip: shape.same_shape_change(Tensor.flip),
        torch.unbind: shape.same_shape_change(torch.unbind),
        Tensor.unbind: shape.same_shape_change(Tensor.unbind),
        torch.split: shape.same_shape_change(torch.split),
        torch.roll: shape.same_shape_change(torch.roll),
        Tensor.roll: shape.same_shape_change(Tensor.roll),
        Tensor.repeat: shape.same_shape_change(Tensor.repeat),
        Tensor.unflatten: shape.same_shape_change(Tensor.unflatten),
        torch.swapaxes: shape.same_shape_change(torch.swapaxes),
        Tensor.swapaxes: shape.same_shape_change(Tensor.swapaxes),
        torch.narrow: shape.same_shape_change(torch.narrow),
        Tensor.narrow: shape.same_shape_change(Tensor.narrow),
        torch.index_select: shape.same_shape_change(torch.index_select),
        Tensor.index_select: shape.same_shape_change(Tensor.index_select),
        torch.movedim: shape.same_shape_change(torch.movedim),
        Tensor.movedim: shape.same_shape_change(Tensor.movedim),
        F.pixel_shuffle: shape.same_shape_change(F.pixel_shuffle),
        F.pixel_unshuffle: shape.same_shape_change(F.pixel_unshuffle),
        F.hardsigmoid: elementwise.hardsigmoid,
        torch.exp: elementwise.monotone(torch.exp),
        Tensor.exp: elementwise.monotone(Tensor.exp),
        F.hardswish: elementwise.one_minimum(F.hardswish, place=-1.5, least=-0.375),
        torch.amax: reductions.extreme(torch.amax),
        Tensor.amax: reductions.extreme(torch.amax),
        torch.amin: reductions.extreme(torch.amin),
        Tensor.amin: reductions.extreme(torch.amin),
        torch.sum: reductions.average(torch.sum),
        Tensor.sum: reductions.average(torch.sum),
        torch.cat: shape.joined(torch.cat),
        torch.stack: shape.joined(torch.stack),
        F.pad: shape.pad,
        F.interpolate: shape.interpolate,
    }
)
