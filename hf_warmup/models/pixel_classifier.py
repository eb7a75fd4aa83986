"""Any image classifier of the Hub as a function of pixels in [0, 1], so that a radius is one number.

What its image processor does to pixels becomes the model's first layer. Resizing and cropping do not: certificates are
about images of the size that the model takes. Only safetensors is loaded, and no code from elsewhere.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.utils import cached_file

from hf_warmup.bounds.propagation import logits_in
from hf_warmup.errors import ConfigError, first_line
from hf_warmup.models.modeling_certified import Normalization


# Where transformers keeps an image processor's settings.
_FILES = ("preprocessor_config.json", "processor_config.json")
# Settings that are dealt with here, or do nothing to the pixels of an image of the right size.
_UNDERSTOOD = {
    "image_processor_type",
    "processor_class",
    "auto_map",
    "image_size",
    "num_channels",
    "do_resize",
    "size",
    "default_to_square",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
    "do_reduce_labels",
    "data_format",
    "input_data_format",
    "return_tensors",
}


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
        logits: Tensor = logits_in(output)
        return logits


def load_classifier(name: str, *, image_size: int | tuple[int, int], num_channels: int) -> nn.Module:
    """Load a classifier in eval mode and float32, to be given pixels in [0, 1].

    Args:
        name: folder or Hub name.
        image_size: height and width of the images that it will be given, or both in one.
        num_channels: theirs.

    Raises:
        ConfigError: if there are no safetensors weights, the model is no image classifier, takes other images, or has
            an image processor that does something to pixels that is not understood.
    """
    try:
        model = AutoModelForImageClassification.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # damaged files make transformers and safetensors raise many kinds
        raise ConfigError(
            f"{name}: cannot be loaded as an image classifier with safetensors weights ({first_line(error)}). Other "
            f"formats can run code when they are loaded: convert the checkpoint with save_pretrained first."
        ) from None
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    channels = getattr(model.config, "num_channels", num_channels)
    if channels != num_channels:
        raise ConfigError(f"{name} takes images of {channels} channels, the data has {num_channels}.")
    classifier: nn.Module = model
    try:
        processor = read_processor(name)
        _check_size(name, processor, height, width)
        if processor.get("do_normalize"):
            mean, std = (_per_channel(processor[key], channels) for key in ("image_mean", "image_std"))
            classifier = PixelClassifier(model, mean, std)
        with torch.no_grad():
            classifier.eval()(torch.zeros(1, channels, height, width))
    except ConfigError:
        raise
    except Exception as error:  # settings of the wrong type, or a model for images of another size
        raise ConfigError(
            f"{name}: its settings do not fit images of {channels} x {height} x {width} pixels "
            f"({type(error).__name__}: {first_line(error)[:200]})."
        ) from None
    return classifier


def _per_channel(value: Any, channels: int) -> list[float]:
    return list(value) if isinstance(value, list | tuple) else [value] * channels


def read_processor(name: str) -> dict[str, Any]:
    """The image processor's settings, defaults included; none without one: the model then takes pixels in [0, 1].

    Raises:
        ConfigError: if it cannot be loaded, or does something to pixels that is not understood.
    """
    try:
        if not any(cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in _FILES):
            return {}
        processor: dict[str, Any] = AutoImageProcessor.from_pretrained(name, trust_remote_code=False).to_dict()
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"{name}: its image processor cannot be loaded ({first_line(error)}).") from None
    unknown = sorted(key for key, value in processor.items() if value and key not in _UNDERSTOOD)
    if unknown:
        raise ConfigError(
            f"{name}: its image processor does something to pixels that is not understood ({', '.join(unknown)}), so "
            f"a certificate would be about another function than the checkpoint's."
        )
    scale = processor.get("rescale_factor", 1 / 255)
    if processor.get("do_rescale", True) is False or abs(scale - 1 / 255) > 1e-9:
        raise ConfigError(f"{name}: its image processor scales pixels by {scale:g} (do_rescale), expected 1/255.")
    return processor


def wanted_size(processor: dict[str, Any]) -> dict[str, int] | None:
    """Sizes that an image processor gives to pictures, `height` and `width` or `shortest_edge`; None for any."""
    if "image_size" in processor:
        size = processor["image_size"]
    elif processor.get("do_center_crop"):
        size = processor.get("crop_size")
    else:
        size = processor.get("size") if processor.get("do_resize") else None
    if size is None:
        return None
    sides = dict(size) if isinstance(size, dict) else {"height": size, "width": size}
    # ConvNeXt's crops what it has resized to a square.
    if processor.get("crop_pct") and "shortest_edge" in sides:
        sides = dict.fromkeys(("height", "width"), sides["shortest_edge"])
    return {key: side for key, side in sides.items() if side is not None and key != "longest_edge"}


def fits(size: dict[str, int] | None, height: int, width: int) -> bool:
    """Whether images of this size stay as they are, by `wanted_size`."""
    sides = {"height": height, "width": width, "shortest_edge": min(height, width)}
    return all(sides.get(key) == side for key, side in (size or {}).items())


def _check_size(name: str, processor: dict[str, Any], height: int, width: int) -> None:
    size = wanted_size(processor)
    if not fits(size, height, width):
        wanted = " x ".join(map(str, sorted(set((size or {}).values()))))
        data = str(height) if height == width else f"{height} x {width}"
        raise ConfigError(
            f"{name}: its image processor resizes to {wanted} pixels, the data has images of {data}. A "
            f"certificate would be about other images than the model sees: give it data of {wanted} pixels."
        )
