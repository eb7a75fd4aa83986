"""Interval bounds with NumPy and the standard library alone, sharing no code with what makes certificates.

The networks are the plain chains (cnn7, cnn_small, mlp), read as data from config.json and safetensors files. Stored
float32 and bfloat16 weights are exact in float64. A box of tensors is a center c, a radius r and an error e: the ends
that interval bounds have in exact arithmetic lie within e of c - r and c + r. Every operation adds to e what its own
roundings may take, by |fl(sum) - sum| <= gamma(n) sum |terms|, gamma(n) = n u / (1 - n u), u = 2^-53. That holds for
IEEE arithmetic rounded to nearest, in any order of summation and with fused multiply-add; a constant far above the
least normal number covers underflow. Hence the exact margin lies between the two numbers that `margins` returns, and a
positive lower one is a proof.

Source: Higham, Accuracy and Stability of Numerical Algorithms, sections 2.1, 3.1 and 4.2; Rump, "Fast and parallel
interval arithmetic", BIT 39, 1999. Deliberately absent: residual networks, pooling, and fast transforms.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier.reading import count, read_object
    from hf_warmup.numpy_verifier.weights import read_weights
else:  # Beside a file that is run by its path.
    from reading import count, read_object  # type: ignore[import-not-found,no-redef]
    from weights import read_weights  # type: ignore[import-not-found,no-redef]


Array = NDArray[np.float64]
UNIT = 2.0**-53
# Products that underflow err by less than 2^-1022 each, even where they are flushed to zero.
_TINY = 2.0**-900
# Doubles in the largest temporary array: 128 MB.
_LARGEST = 2**24
# PyTorch's default, which no checkpoint stores.
_BATCH_NORM_EPS = 1e-5
_CONFIG = {
    *("model_type", "architectures", "architecture", "dtype", "transformers_version", "auto_map"),
    *("image_size", "num_channels", "image_mean", "image_std", "batch_norm", "num_labels", "id2label", "label2id"),
    *("conv5_stride", "widen_factor", "stem_channels", "bottleneck_width", "blocks_per_stage", "hidden_sizes"),
    *("strides", "dense_size"),
}
_PROCESSOR = {"image_processor_type", "image_size", "num_channels", "auto_map"}


@dataclass(frozen=True)
class Layer:
    """An affine map: a convolution, padded by half its kernel, where `weight` has four dimensions.

    Attributes:
        weight: (O, C, k, k) or (O, D), each entry within gamma(8) of the true one, relative to itself.
        bias: (O,).
        bias_error: how far the true bias may be away, (O,).
        stride: of a convolution.
    """

    weight: Array
    bias: Array
    bias_error: Array
    stride: int = 1


@dataclass(frozen=True)
class Network:
    """`(pixel - mean) / std`, then `layers` with a ReLU after each but the last; `shape` is an image's, (C, H, W)."""

    mean: Array
    std: Array
    layers: list[Layer]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """The ends in exact arithmetic lie within `error` of `center - radius` and of `center + radius`."""

    center: Array
    radius: Array
    error: Array


def read_network(folder: Path) -> Network:
    """The network of a checkpoint folder, its batch normalizations merged with the layers before them.

    Raises:
        ValueError: if it is no plain chain, or its tensors are not exactly those of its config.
        OSError: if a file is missing.
    """
    config = read_object(folder / "config.json")
    tensors = read_weights(folder)
    try:
        network = _build(config, tensors)
        _check_settings(folder, config)
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{folder}: config.json and the weights do not fit ({error!r}).") from None
    left = sorted(name for name in tensors if not name.endswith("num_batches_tracked"))
    if left:
        raise ValueError(f"{folder}: tensors that its architecture does not have: {', '.join(left[:3])}.")
    return network


def _check_settings(folder: Path, config: dict[str, Any]) -> None:
    """Settings that would make another function of the same weights, or that NumPy does not know."""
    if unknown := sorted(config.keys() - _CONFIG):
        raise ValueError(f"{folder}: NumPy does not know what {', '.join(unknown)} in config.json does to a model.")
    if config.get("dtype") != "float32":
        raise ValueError(
            f'{folder}: what is proven is the model in float32, and config.json must say "dtype": "float32"; got '
            f"{config.get('dtype')!r}."
        )
    for file in folder.glob("*processor_config.json"):
        processor = read_object(file)
        if (
            processor.keys() - _PROCESSOR
            or processor.get("image_processor_type") != "CertifiedImageProcessor"
            or any(processor.get(name) != config.get(name) for name in ("image_size", "num_channels"))
        ):
            raise ValueError(
                f"{file}: expected a CertifiedImageProcessor for the model's images that leaves normalization to the "
                f"model, and no other settings."
            )


def _build(config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Network:
    convolutions, dense = _widths(config)
    channels, size = count(config["num_channels"]), count(config["image_size"])
    mean, std = (_take(tensors, f"normalization.{part}", (1, channels, 1, 1)) for part in ("mean", "std"))
    if not (std > 0).all():
        raise ValueError("the deviations of the normalization must be positive.")
    # A layer that flattens stands before the first linear one.
    layers, shape, index = [], (channels, size, size), 0
    for width, stride in convolutions:
        norm = config["batch_norm"] in ("full", "conv")
        layers.append(_layer(tensors, index, (width, shape[0], 3, 3), norm, stride))
        shape, index = (width, -(-shape[1] // stride), -(-shape[2] // stride)), index + 2 + norm
    before, index = math.prod(shape), index + 1
    for width in dense:
        norm = config["batch_norm"] == "full"
        layers.append(_layer(tensors, index, (width, before), norm))
        before, index = width, index + 2 + norm
    classes = len(tensors[f"network.{index}.bias"])
    if classes < 2:
        raise ValueError(f"a classifier has at least two classes, got {classes}.")
    layers.append(_layer(tensors, index, (classes, before), False))
    return Network(mean, std, layers, (channels, size, size))


def _widths(config: dict[str, Any]) -> tuple[list[tuple[int, int]], list[int]]:
    """(channels, stride) of each convolution, and the widths of the hidden linear layers."""
    if config.get("model_type") != "certified" or config["architecture"] not in ("cnn7", "cnn_small", "mlp"):
        kind = config.get("architecture", config.get("model_type"))
        raise ValueError(f"NumPy proves only plain chains again (cnn7, cnn_small, mlp), got {kind!r}.")
    if config["batch_norm"] not in ("full", "conv", "none"):
        raise ValueError(f"batch_norm must be full, conv or none, got {config['batch_norm']!r}.")
    if config["architecture"] == "mlp":
        return [], list(map(count, config["hidden_sizes"]))
    if config["architecture"] == "cnn_small":
        pairs = zip(config["hidden_sizes"], config["strides"], strict=True)
    else:
        pairs = zip([64, 64, 128, 128, 128], [1, 1, 2, 1, config["conv5_stride"]], strict=True)
    return [(count(width), count(stride)) for width, stride in pairs], [count(config["dense_size"])]


def _take(tensors: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Array:
    """A tensor in float64, removed from `tensors`."""
    found = tensors.pop(name)
    # What is certified is the model as it is loaded, in float32.
    with np.errstate(over="ignore"):
        kept = found.astype(np.float32)
    if found.shape != shape or found.dtype.kind != "f" or not (np.isfinite(kept) & (kept == found)).all():
        raise ValueError(f"{name} must hold finite float32 numbers, {shape}; got {found.dtype}, {found.shape}.")
    return kept.astype(np.float64)


def _layer(tensors: dict[str, NDArray[Any]], index: int, shape: tuple[int, ...], norm: bool, stride: int = 1) -> Layer:
    """Layer `index`, times the scale of the batch normalization after it, if there is one."""
    weight, bias = _take(tensors, f"network.{index}.weight", shape), _take(tensors, f"network.{index}.bias", shape[:1])
    if not norm:
        return Layer(weight, bias, np.zeros_like(bias), stride)
    names = ("weight", "bias", "running_mean", "running_var")
    gain, offset, mean, variance = (_take(tensors, f"network.{index + 1}.{name}", shape[:1]) for name in names)
    if not (variance >= 0).all():
        raise ValueError(f"network.{index + 1}.running_var must not be negative.")
    # Four roundings, and one more in the product with a weight.
    scale = gain / np.sqrt(variance + _BATCH_NORM_EPS)
    error = gamma(12) * ((np.abs(bias) + np.abs(mean)) * np.abs(scale) + np.abs(offset))
    scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return Layer(scaled, (bias - mean) * scale + offset, error, stride)


def margins(network: Network, images: Array, labels: NDArray[np.int64], eps: Array) -> tuple[Array, Array]:
    """Two numbers for each image, between which lies its exact margin: the least lead of the label over another class
    that interval bounds can show, last layer merged with the differences of classes.

    Args:
        network: from `read_network`.
        images: pixels in [0, 1], (N, C, H, W).
        labels: class numbers, (N,).
        eps: radius of each image in pixel units, (N,).

    Returns:
        lower, upper: (N,); NaN where numbers overflow, which proves nothing.
    """
    kernels = [layer.weight[0].size for layer in network.layers if layer.weight.ndim == 4]
    size = max(1, min(256, _LARGEST // (math.prod(network.shape[1:]) * max(kernels, default=1))))
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    with np.errstate(all="ignore"):
        ends = [_margins(network, images[part], labels[part], eps[part]) for part in parts]
    return np.concatenate([lower for lower, _ in ends]), np.concatenate([upper for _, upper in ends])


def _margins(network: Network, images: Array, labels: NDArray[np.int64], eps: Array) -> tuple[Array, Array]:
    box = image_box(network, images, eps)
    for layer in network.layers[:-1]:
        box = relu(affine(layer, box))
    last = network.layers[-1]
    ends = np.empty((2, len(images)))
    for label in np.unique(labels):
        own = labels == label
        found = affine(lead_layer(last, int(label)), Box(box.center[own], box.radius[own], box.error[own]))
        margin = found.center - found.radius
        error = (found.error + 2 * UNIT * (np.abs(found.center) + found.radius)) * (1 + 4 * UNIT)
        ends[0, own] = np.nextafter(margin - error, -np.inf).min(1)
        ends[1, own] = np.nextafter(margin + error, np.inf).min(1)
    return ends[0], ends[1]


def image_box(network: Network, images: Array, eps: Array) -> Box:
    """The normalized images with everything within a radius of each, pixels cut to [0, 1]."""
    each = eps.reshape(-1, 1, 1, 1)
    lower, upper = np.maximum(images - each, 0.0), np.minimum(images + each, 1.0)
    return _normalized(between(lower, upper, np.full_like(images, 2 * UNIT)), network.mean, network.std)


def lead_layer(last: Layer, label: int) -> Layer:
    """The last layer merged with the differences of a label and every other class, in ascending order of those."""
    rivals = np.arange(len(last.bias)) != label
    bias = last.bias[label] - last.bias[rivals]
    return Layer(last.weight[label] - last.weight[rivals], bias, gamma(2) * np.abs(bias))


def gamma(roundings: int) -> float:
    """Relative error of so many roundings one after the other."""
    # One more covers the roundings of this quotient.
    return (roundings + 1) * UNIT / (1 - (roundings + 1) * UNIT)


def between(lower: Array, upper: Array, error: Array) -> Box:
    """The box of ends that are known up to `error`; sum, difference and their halves round once."""
    largest = np.maximum(np.abs(lower), np.abs(upper))
    return Box((lower + upper) / 2, (upper - lower) / 2, (error + 2 * UNIT * largest) * (1 + 4 * UNIT) + _TINY)


def _normalized(box: Box, mean: Array, std: Array) -> Box:
    error = box.error + gamma(8) * (np.abs(box.center) + np.abs(mean) + box.radius)
    return Box((box.center - mean) / std, box.radius / std, error / std * (1 + 8 * UNIT) + _TINY)


def relu(box: Box) -> Box:
    """Both ends; where even the upper one is not positive, both are exactly zero."""
    lower, upper = box.center - box.radius, box.center + box.radius
    error = (box.error + 2 * UNIT * (np.abs(box.center) + box.radius)) * (1 + 4 * UNIT)
    alive = ~(upper + error <= 0)
    return between(np.maximum(lower, 0) * alive, np.maximum(upper, 0) * alive, error * alive)


def affine(layer: Layer, box: Box) -> Box:
    """Center through the weights, radius and error through their magnitudes.

    With n terms and g = gamma(n + 16): the exact ends move by |W| e (1 + g) for the error of the input, by
    g |W| (|c| + r) for the weights' own errors and all roundings, and by the bias's error. The last factor makes up
    for the roundings of this sum itself, whose terms are all positive.
    """
    share = gamma(layer.weight[0].size + 16)
    magnitudes = np.abs(layer.weight)
    spread = box.error * (1 + share) + share * (np.abs(box.center) + box.radius)
    center, radius, error = (
        product(x, weight, layer.stride)
        for x, weight in ((box.center, layer.weight), (box.radius, magnitudes), (spread, magnitudes))
    )
    per_channel = (-1, *[1] * (center.ndim - 2))
    known = (share * np.abs(layer.bias) + layer.bias_error).reshape(per_channel)
    error = (error + known) * (1 + 2 * share) + _TINY
    center = center + layer.bias.reshape(per_channel)
    # What overflowed is not known at all.
    return Box(center, radius, np.where(np.isfinite(center) & np.isfinite(radius), error, np.inf))


def product(x: Array, weight: Array, stride: int) -> Array:
    """Inputs, (N, ...), through a layer's weights."""
    if weight.ndim == 2:
        return x.reshape(len(x), -1) @ weight.T
    kernel = weight.shape[-1]
    padded = np.pad(x, [(0, 0), (0, 0), *[(kernel // 2, kernel // 2)] * 2])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
