"""The model of a recipe: one of the built-in networks, or whatever a person's function makes."""

import hashlib
import logging
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model as save_weights
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

from hf_warmup.bounds import UnsupportedOperation, input_interval, propagate
from hf_warmup.certified import ibp_init_
from hf_warmup.data.images import ImageData
from hf_warmup.errors import ConfigError, first_line, unknown_names
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor
from hf_warmup.models.factory import file_of, logits_of_zeros, make_own
from hf_warmup.numpy_verifier.weights import WHOLE
from hf_warmup.studies.certification.config import CertifiedArmConfig


logger = logging.getLogger(__name__)


def make_model(settings: Mapping[str, Any], data: ImageData, arm: CertifiedArmConfig) -> nn.Module:
    """The arm's model, freshly initialized from torch's global generator.

    Args:
        settings: keys of `CertifiedConfig`; or `factory`, FILE.py:FUNCTION or MODULE:FUNCTION, and keyword arguments
            of that function.
        data: what it is trained on.
        arm: which initialization and normalization it asks for.

    Raises:
        ConfigError: for settings that neither takes, or a model that cannot be trained on this data.
    """
    model = _own(settings, data, arm) if "factory" in settings else None
    if model is None:
        model = CertifiedForImageClassification(model_config(settings, data, arm))
    if arm.ibp_init:
        try:
            ibp_init_(model, torch.zeros(1, *data.train.images.shape[1:]))
        except ValueError as error:
            raise ConfigError(f"arm {arm.name!r}: {error} Set ibp_init: false.") from None
    return model


def check_model(settings: Mapping[str, Any], data: ImageData, arm: CertifiedArmConfig) -> None:
    """Raise ConfigError as `make_model` does; the state of torch's random numbers stays what it is."""
    if "factory" not in settings:
        model_config(settings, data, arm)
        return
    with torch.random.fork_rng(devices=[]):
        model = make_model(settings, data, arm).eval()
    tape: list[Any] = []
    with torch.no_grad():
        propagate(model, input_interval(torch.zeros(1, *data.train.images.shape[1:]), 0.01, tape=tape))
    if not tape and (arm.tightness or arm.relu_balance):
        logger.warning("arm %s: %s has no ReLU, which the two regularizers are about.", arm.name, settings["factory"])


def file_digest(settings: Mapping[str, Any]) -> str | None:
    """SHA-256 of the file that a person's own model comes from; None for built-in ones."""
    file = file_of(settings["factory"]) if isinstance(settings.get("factory"), str) else None
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def _own(settings: Mapping[str, Any], data: ImageData, arm: CertifiedArmConfig) -> nn.Module:
    name, shape = settings["factory"], tuple(data.train.images.shape[1:])
    if not isinstance(name, str):
        raise ConfigError(f"model.factory must be FILE.py:FUNCTION or MODULE:FUNCTION, got {name!r}.")
    if arm.batch_norm != "full":
        raise ConfigError(
            f"arm {arm.name!r}: batch_norm is for the built-in networks; what model.factory makes has what its "
            "function gives it. Remove it."
        )
    model = make_own(name, {key: value for key, value in settings.items() if key != "factory"})
    logits = logits_of_zeros(model, shape, name)
    if logits.shape[1] < data.num_labels:
        raise ConfigError(f"{name}: the model has {logits.shape[1]} logits, and the data {data.num_labels} classes.")
    dropout = [part for part, module in model.named_modules() if isinstance(module, _DropoutNd) and module.p > 0]
    if dropout:
        raise ConfigError(
            f"{name}: dropout ({', '.join(dropout)}) has no bounds in training; give it p=0, or leave it out: "
            "certified training overfits little."
        )
    try:
        # In eval mode: no statistics move. What has no rule should be known before an epoch is trained.
        propagate(model.eval(), input_interval(torch.zeros(1, *shape), 0.01))
    except UnsupportedOperation as error:
        raise ConfigError(f"{name}: {error}.") from None
    return model.train()


def model_config(settings: Mapping[str, Any], data: ImageData, arm: CertifiedArmConfig) -> CertifiedConfig:
    """The config of the arm's built-in model; raises as `make_model`."""
    known = signature(CertifiedConfig.__init__).parameters.keys() - {"self", "kwargs", "batch_norm"}
    if problem := unknown_names(settings, known):
        raise ConfigError(f"model: there is {problem}. An arm states batch_norm; `factory` names a model of your own.")
    channels, height, width = data.shape
    if height != width:
        raise ConfigError(
            f"model: the built-in networks take square images, the data has {height} x {width}; crop them, or give a "
            f"network of your own: model: {{factory: FILE.py:FUNCTION}}."
        )
    fixed = {"num_channels": channels, "image_size": height, "num_labels": data.num_labels, **settings}
    try:
        config = CertifiedConfig(**fixed, batch_norm=arm.batch_norm)
        # By which other data will be matched, whatever order its classes have; numbers say no more than their place.
        if data.names is not None and len(data.names) == config.num_labels and not all(map(str.isdigit, data.names)):
            config.id2label = dict(enumerate(data.names))
            config.label2id = {name: number for number, name in enumerate(data.names)}
        return config
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {first_line(error)}") from None


def save_model(model: nn.Module, folder: Path) -> None:
    """Weights as safetensors; of a transformers model its config, and of a built-in one its image processor, as a Hub
    repository holds them."""
    if not isinstance(model, PreTrainedModel):
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(model, str(folder / WHOLE))
        return
    model.save_pretrained(folder)
    if isinstance(model, CertifiedForImageClassification):
        config = model.config
        CertifiedImageProcessor(config.image_size, config.num_channels).save_pretrained(folder)
