"""Finds out which CNN-7 a file holds, and that it holds exactly the tensors of this one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_warmup.errors import ConfigError
from hf_warmup.hub.importers.state_dicts import Layers, Numbers, normalization_keys, some
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


LAYOUTS = ("fast-certified", "ctbench", "ctrain")


@dataclass(frozen=True)
class KnownDataset:
    """What networks for a data set look like.

    Attributes:
        certify_arguments: of `hf-warmup certify`: where its images are, and a radius of the field.
        num_channels, num_labels: of its images.
        image_sizes: heights that networks were trained at.
    """

    certify_arguments: str
    num_channels: int
    num_labels: int
    image_sizes: tuple[int, ...]


DATASETS = {
    "mnist": KnownDataset("ylecun/mnist --eps 1/10", 1, 10, (28,)),
    "cifar10": KnownDataset("uoft-cs/cifar10 --eps 2/255", 3, 10, (32,)),
    # CTBench's networks were trained on 56 x 56 pixels cut out of its pictures.
    "tinyimagenet": KnownDataset("zh-plus/tiny-imagenet --split valid --eps 1/255", 3, 200, (64, 56)),
}

_CIFAR_MEAN: Numbers = (0.4914, 0.4822, 0.4465)
_TINY: tuple[Numbers, Numbers] = ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))
# Mean and standard deviation by which the loaders of a layout normalize.
LOADERS: dict[str, dict[str, tuple[Numbers, Numbers]]] = {
    "fast-certified": {
        "mnist": ((0.0,), (1.0,)),
        "cifar10": (_CIFAR_MEAN, (0.2023, 0.1994, 0.2010)),
        "tinyimagenet": _TINY,
    },
    "ctrain": {
        "mnist": ((0.1307,), (0.3081,)),
        "cifar10": (_CIFAR_MEAN, (0.247, 0.243, 0.261)),
        "tinyimagenet": _TINY,
    },
}


def recognize(
    layers: Layers, file: Path, *, dataset: str | None, image_size: int | None, mean: Numbers, std: Numbers
) -> CertifiedConfig:
    """The config of the one CNN-7 that these layers can be.

    Args:
        layers: without a normalization layer.
        file: for messages.
        dataset: one of `DATASETS`, whose channels and classes they must have.
        image_size: height and width in pixels; by default one that the data set's networks take.
        mean, std: of the normalization, per channel.

    Raises:
        ConfigError: if there is none, or an image size is needed to tell.
    """
    first, last, flat, classifier = _outer_weights(layers, file)
    channels, labels = first.shape[1], classifier.shape[0]
    known = DATASETS[dataset] if dataset else None
    if known and (channels, labels) != (known.num_channels, known.num_labels):
        raise ConfigError(
            f"{file}: is for {channels} channels and {labels} classes; {dataset} has {known.num_channels} and "
            f"{known.num_labels}."
        )
    sizes = known.image_sizes if known and image_size is None else () if image_size is None else (image_size,)
    size, stride = _geometry(flat.shape[1], last.shape[0], sizes, file)
    shape: dict[str, Any] = {
        "image_size": size,
        "num_channels": channels,
        "num_labels": labels,
        "conv5_stride": stride,
    }
    batch_norm = _batch_norm(layers, file)
    try:
        return CertifiedConfig("cnn7", **shape, batch_norm=batch_norm, image_mean=list(mean), image_std=list(std))
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None


def fill_(model: CertifiedForImageClassification, layers: Layers, file: Path) -> None:
    """Put the layers into the network of a model, each tensor in its place.

    Raises:
        ConfigError: if one is missing, left over, of another shape, no number, or a variance that is negative.
    """
    expected = model.network.state_dict()
    # Files made through bound libraries lack the counters, which evaluation does not use.
    missing = [key for key in expected if key not in layers and not key.endswith("num_batches_tracked")]
    extra = sorted((key for key in layers if key not in expected), key=_number)
    if missing or extra:
        raise ConfigError(
            f"{file}: not the layers of a CNN-7 with batch normalization {model.config.batch_norm!r}, numbered as in "
            f"one nn.Sequential; missing: {some(missing)}; left over: {some(extra)}."
        )
    for key, tensor in layers.items():
        if tensor.shape != expected[key].shape:
            raise ConfigError(
                f"{file}: {key} has the shape {tuple(tensor.shape)}; in a CNN-7 it has {tuple(expected[key].shape)}."
            )
        counter = key.endswith("num_batches_tracked")
        if not counter and not (tensor.is_floating_point() and bool(tensor.float().isfinite().all())):
            raise ConfigError(f"{file}: {key} ({tensor.dtype}) must hold floating-point numbers, finite in float32.")
        if key.endswith("running_var") and bool((tensor < 0).any()):
            raise ConfigError(f"{file}: {key} has negative values, which no variance has.")
    with torch.no_grad():
        for key, tensor in layers.items():
            expected[key].copy_(tensor)


def _outer_weights(layers: Layers, file: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the first and last convolution and of the two linear layers."""
    if extra := normalization_keys(layers):
        raise ConfigError(f"{file}: has a normalization layer ({some(extra)}); the layout with one is ctbench.")
    weights = [layers[key] for key in sorted(layers, key=_number) if key.endswith(".weight")]
    convolutions, linear = ([weight for weight in weights if weight.dim() == dim] for dim in (4, 2))
    if (len(convolutions), len(linear)) != (5, 2):
        raise ConfigError(
            f"{file}: a CNN-7 has 5 convolutions and 2 linear layers, found {len(convolutions)} and {len(linear)}."
        )
    return convolutions[0], convolutions[-1], linear[0], linear[1]


def _number(key: str) -> tuple[int, str]:
    number, name = key.split(".")
    return int(number), name


def _geometry(features: int, channels: int, sizes: tuple[int, ...], file: Path) -> tuple[int, int]:
    """Image size and stride of the fifth convolution that give so many features after flattening."""
    strided = [(size, stride) for size in sizes for stride in (1, 2)]
    fits = [found for found in strided if channels * math.ceil(math.ceil(found[0] / 2) / found[1]) ** 2 == features]
    if len(fits) != 1:
        tried = f"images of {' or '.join(map(str, sizes))} pixels do not give" if sizes else "could come of several"
        raise ConfigError(
            f"{file}: its first linear layer takes {features} features, which {tried}"
            f"{'' if sizes else ' image sizes'}; state --image-size as the network was trained."
        )
    return fits[0]


def _batch_norm(layers: Layers, file: Path) -> str:
    normalized = sorted((key for key in layers if key.endswith(".running_mean")), key=_number)
    found = {6: "full", 5: "conv", 0: "none"}.get(len(normalized))
    if found is None:
        raise ConfigError(
            f"{file}: batch normalization must follow all 6 hidden layers, the 5 convolutions or none; it follows "
            f"{len(normalized)} ({some(normalized)})."
        )
    return found
