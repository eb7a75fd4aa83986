"""A classifier and its images as a person names them, fitted to each other: pixels in [0, 1] go in."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import AutoConfig

from hf_warmup.data.classes import model_names
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, in_classes, load_split
from hf_warmup.errors import ConfigError, first_line
from hf_warmup.models.factory import file_of, is_factory, logits_of_zeros, make_own, state_digest
from hf_warmup.models.picture_fitting import load_fitting
from hf_warmup.models.pixel_classifier import load_classifier
from hf_warmup.models.source import ModelSource, find_model


def load_pair(model: str, weights: Path | None, data: DataConfig) -> tuple[ModelSource, nn.Module, Images]:
    """A classifier in eval mode, and the test split that it takes.

    Args:
        model: folder or Hub name of a transformers model, or FILE.py:FUNCTION that makes any `nn.Module`.
        weights: safetensors file for what the function makes.
        data: of its mode, gray or RGB, the model decides.

    Raises:
        ConfigError: if one of them cannot be loaded, or they do not fit each other.
    """
    if is_factory(model):
        return _own(model, weights, data)
    if weights is not None:
        raise ConfigError(
            f"--weights is for a model that a function makes, FILE.py:FUNCTION; the folder or repository {model} has "
            "its own."
        )
    source = find_model(model)
    place = str(source.folder)
    images = load_fitted(place, data)
    _, channels, height, width = images.images.shape
    return source, load_classifier(place, image_size=(height, width), num_channels=channels), images


def load_fitted(folder: str, data: DataConfig, *, processed: bool = True) -> Images:
    """The test split that a transformers model takes, with labels that are numbers of its classes.

    Args:
        folder: of the model.
        data: of its mode, gray or RGB, the model decides.
        processed: whether pictures of another size go through the model's image processor.

    Raises:
        ConfigError: if they cannot be loaded, or are of other classes.
    """
    config = _config(folder)
    mode: Literal["L", "RGB"] = "L" if getattr(config, "num_channels", 3) == 1 else "RGB"
    fitting = load_fitting(folder) if processed else None
    images = load_split(data.model_copy(update={"mode": mode}), "test", fitting)
    return in_classes(images, model_names(getattr(config, "id2label", None)), int(config.num_labels), data)


def _own(name: str, weights: Path | None, data: DataConfig) -> tuple[ModelSource, nn.Module, Images]:
    model = make_own(name, weights=weights).eval()
    images = load_split(data.model_copy(update={"mode": _mode_of(model)}), "test")
    try:
        logits = logits_of_zeros(model, tuple(images.images.shape[1:]), name)
    except ConfigError as error:
        # Only a trial tells how many channels a model without convolutions takes.
        if images.images.shape[1] == 1:
            raise
        try:
            logits = logits_of_zeros(model, (1, *images.images.shape[2:]), name)
        except ConfigError:
            raise error from None
        images = load_split(data.model_copy(update={"mode": "L"}), "test")
    names = model_names(getattr(getattr(model, "config", None), "id2label", None))
    images = in_classes(images, names, logits.shape[1], data)
    file = file_of(name)
    settings = {} if file is None else {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    # After loading: what is certified is what the module holds.
    return (
        ModelSource(Path(name.rpartition(":")[0]).parent, settings=settings, weights=state_digest(model)),
        model,
        images,
    )


def _config(model: str) -> Any:
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # a damaged config makes transformers raise many kinds
        raise ConfigError(f"{model}: no config of an image classifier can be loaded ({first_line(error)}).") from None


def _mode_of(model: nn.Module) -> Literal["L", "RGB"]:
    convolutions = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    return "L" if convolutions[:1] == [1] else "RGB"
