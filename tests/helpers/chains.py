"""Small random classifiers of each plain chain, and images that they answer."""

from typing import Any

import torch
from torch import nn

from hf_warmup.data.images import Images
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


SIZES: dict[str, dict[str, Any]] = {
    "mlp": {"image_size": 5, "hidden_sizes": [12, 9]},
    "cnn_small": {"image_size": 7, "hidden_sizes": [3, 5], "strides": [2, 1], "dense_size": 8},
    "cnn7": {"image_size": 6, "conv5_stride": 2, "dense_size": 8},
}
CASES = [(name, norm) for name in SIZES for norm in ("full", "conv", "none")]


def lively(seed: int, architecture: str, batch_norm: str, **sizes: Any) -> CertifiedForImageClassification:
    """A random classifier whose normalizations and running statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    options = {"num_channels": 2, "image_mean": [0.3, 0.45], "image_std": [0.2, 0.7], "num_labels": 4}
    config = CertifiedConfig(architecture=architecture, batch_norm=batch_norm, **{**options, **sizes})
    model = CertifiedForImageClassification(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            width = module.num_features
            module.running_mean, module.running_var = torch.randn(width) / 3, torch.rand(width) + 0.05
            module.weight.data, module.bias.data = torch.randn(width), torch.randn(width) / 3
    return model


def some_images(seed: int, model: CertifiedForImageClassification, count: int = 6) -> Images:
    """Random images, labelled as the model answers."""
    config = model.config
    shape = (count, config.num_channels, config.image_size, config.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Images(images, model(images.float() / 255).logits.argmax(1).detach())
