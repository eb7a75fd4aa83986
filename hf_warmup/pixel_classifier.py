"""Any image classifier of the Hub as a function of pixels in [0, 1], so that a radius is one number.

What its image processor does to pixels becomes the model's first layer. Resizing and cropping do not: certificates are
about images of the size that the model takes. Only safetensors is loaded, and no code from elsewhere.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification
from transformers.image_processing_base import ImageProcessingMixin

from hf_warmup.errors import ConfigError
from hf_warmup.models.modeling_certified import Normalization


class PixelClassifier(nn.Module):
    """A classifier behind the normalization of its image processor.

    Args:
        model: takes normalized images and returns logits, or an output that has them.
        mean, std: one value per channel, for pixels in [0, 1].
    """

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.normalization = Normalization(mean, std)
        self.model = model
        self.config = getattr(model, "config", None)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits, (B, K), of images (B, C, H, W) in [0, 1]."""
        output = self.model(self.normalization(pixel_values))
        logits: Tensor = getattr(output, "logits", output)
        return logits


def load_classifier(name: str, *, image_size: int, num_channels: int) -> nn.Module:
    """Load a classifier in eval mode and float32, to be given pixels in [0, 1].

    Args:
        name: folder or Hub name.
        image_size, num_channels: of the images that it will be given.

    Raises:
        ConfigError: if there are no safetensors weights, the model is no image classifier, takes other images, or has
            an image processor that does something to pixels that is not understood.
    """
    try:
        model = AutoModelForImageClassification.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{name}: cannot be loaded as an image classifier with safetensors weights ({first}). Other formats can "
            f"run code when they are loaded: convert the checkpoint with save_pretrained first."
        ) from None
    channels = getattr(model.config, "num_channels", num_channels)
    if channels != num_channels:
        raise ConfigError(f"{name} takes images of {channels} channels, the data has {num_channels}.")
    processor = _processor(name)
    _check_size(name, processor, image_size)
    classifier: nn.Module = model
    if processor.get("do_normalize"):
        mean, std = (_per_channel(processor[key], channels) for key in ("image_mean", "image_std"))
        classifier = PixelClassifier(model, mean, std)
    return classifier.eval()


def _per_channel(value: Any, channels: int) -> list[float]:
    return list(value) if isinstance(value, list | tuple) else [value] * channels


def _processor(name: str) -> dict[str, Any]:
    """The image processor's settings; none if the checkpoint has none, which then takes pixels in [0, 1]."""
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        return {}
    scale = processor.get("rescale_factor", 1 / 255)
    if processor.get("do_rescale", True) is False or abs(scale - 1 / 255) > 1e-9 or processor.get("offset"):
        raise ConfigError(f"{name}: its image processor scales pixels by {scale:g} (do_rescale), expected 1/255.")
    return dict(processor)


def _check_size(name: str, processor: dict[str, Any], image_size: int) -> None:
    size = processor.get("size", processor.get("image_size"))
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    resizes = processor.get("do_resize", "image_size" not in processor) and not processor.get("image_size")
    wanted = size if resizes or processor.get("image_size") else None
    if wanted is not None and wanted != image_size:
        raise ConfigError(
            f"{name}: its image processor resizes to {wanted} pixels, the data has images of {image_size}. A "
            f"certificate would be about other images than the model sees: give it data of {wanted} pixels."
        )
