"""Reads the layers of an `nn.Sequential` from somebody else's file, without running any code of that file."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hf_warmup.errors import ConfigError, first_line


Layers = dict[str, Tensor]
Numbers = tuple[float, ...]

# Checkpoints keep their state dict under one of these names, beside optimizers and counters.
WRAPPERS = ("state_dict", "model_state_dict", "model")
KEY = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<number>\d+)\.(?P<name>\w+)")


def read_layers(file: Path) -> Layers:
    """Tensors by "NUMBER.NAME", such as "0.weight", out of the usual wrappers and rid of the prefix that they share.

    Raises:
        ConfigError: if the file is missing, would need code to be loaded, or holds anything else.
    """
    tensors = _tensors(_load(file), file)
    matches = {key: KEY.fullmatch(key) for key in tensors}
    stray = [key for key, match in matches.items() if match is None]
    prefixes = {key: match["prefix"] for key, match in matches.items() if match is not None}
    # The prefix of most; what has another one belongs to something else.
    usual = max(prefixes.values(), key=list(prefixes.values()).count, default="")
    stray += [key for key, prefix in prefixes.items() if prefix != usual]
    if stray:
        raise ConfigError(
            f"{file}: expected the layers of one nn.Sequential, PREFIX.NUMBER.NAME with one prefix for all; "
            f"{some(stray)} do not belong to it."
        )
    return {f"{int(match['number'])}.{match['name']}": tensors[key] for key, match in matches.items() if match}


def split_normalization(layers: Layers, file: Path) -> tuple[Layers, Numbers, Numbers]:
    """The network's layers, numbered from 0 again, and the mean and deviation of the normalization layer before them.

    Raises:
        ConfigError: if the first layer is none.
    """
    own = normalization_keys(layers)
    if own not in (["0.mean", "0.sigma"], ["0.mean", "0.std"]):
        raise ConfigError(
            f"{file}: the layout ctbench starts with a normalization layer, 0.mean and 0.sigma; found {some(own)}. If "
            "a loader normalizes, the layout is fast-certified or ctrain."
        )
    # The shortest decimals that are the same float32: 0.2023 rather than 0.20229999721050262.
    mean, std = (tuple(float(str(value)) for value in layers[key].float().flatten().numpy()) for key in own)
    numbered = (key.split(".") for key in layers if key not in own)
    return {f"{int(number) - 1}.{name}": layers[f"{number}.{name}"] for number, name in numbered}, mean, std


def normalization_keys(layers: Layers) -> list[str]:
    """Names that only a normalization layer has."""
    return sorted(key for key in layers if key.split(".")[1] in ("mean", "sigma", "std"))


def some(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    listed = list(names)
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return (", ".join(listed[:4]) or "none") + more


def _load(file: Path) -> Any:
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            # torch warns of pickle protocols; the file is read or refused all the same.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{file}: cannot be loaded as plain tensors ({first_line(error)[:160]}). A file with more than tensors, "
            "numbers and texts in it can run code when it is loaded, and is refused: whoever made it can save "
            "model.state_dict() instead."
        ) from None


def _tensors(found: Any, file: Path) -> Layers:
    for _ in WRAPPERS:
        inner = [found[key] for key in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        found = inner[0] if inner else found
    if not isinstance(found, Mapping) or not found:
        raise ConfigError(f"{file}: expected a state dict, names and tensors, got a {type(found).__name__}.")
    other = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    if other:
        raise ConfigError(f"{file}: expected a state dict, names and tensors; {some(other)} are not tensors.")
    return {str(key): value.detach() for key, value in found.items()}
