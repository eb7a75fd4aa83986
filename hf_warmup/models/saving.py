"""How a checkpoint's weights are stored: as they were trained, or rounded to bfloat16 and in several files.

Only the weights of convolutions and linear layers are rounded; they are nearly all the bytes. The rest stays in
float32, because rounding it would cost more than it saves. A rounded mean or deviation of the input's normalization
shifts every pixel by a good part of the certified radius, and is no longer the config's. Rounded running statistics
move whole channels where a mean is large beside its deviation. Biases and gains are a thousandth of the bytes. A model
is loaded in float32 however it is stored, because config.json says so: without its `dtype`, transformers would compute
in bfloat16. transformers divides the weights between files, and keeps each tensor in one of them. Deliberately absent:
smaller numbers than bfloat16.
"""

import re
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedForImageClassification
from hf_warmup.numpy_verifier.weights import INDEX, WHOLE, weight_files


StorageType = Literal["float32", "bfloat16"]
SETTINGS = ("config.json", "preprocessor_config.json")
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def model_files(folder: Path) -> list[str]:
    """Names of the files that make a model: its weights, their index if there is one, and two of settings.

    Raises:
        ConfigError: if one is missing, or there are other weights.
    """
    missing = [] if any(folder.glob("*.safetensors")) else [WHOLE]
    missing += [name for name in SETTINGS if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}.")
    try:
        weights = [path.name for path in weight_files(folder)]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return [*weights, *([INDEX] if (folder / INDEX).is_file() else []), *SETTINGS]


def stored_type(folder: Path) -> StorageType:
    """What the weights of a folder are stored in: "bfloat16" if any are; raises as `model_files`."""
    for name in model_files(folder):
        if name.endswith(".safetensors"):
            with safe_open(folder / name, framework="pt") as file:
                if any(file.get_slice(key).get_dtype() == "BF16" for key in file.keys()):
                    return "bfloat16"
    return "float32"


def store_model(
    source: Path, out: Path, *, dtype: StorageType | None = None, max_shard_size: str | None = None
) -> None:
    """Put a model into another folder, byte for byte, or stored in another way if one is named.

    Args:
        source: a model's folder.
        out: folder, made if it does not exist.
        dtype: that weights of convolutions and linear layers are rounded to, to nearest; None leaves them.
        max_shard_size: the most that a file of weights holds, such as "15MB"; None for one file.

    Raises:
        ConfigError: if the model cannot be loaded or is no certified one, a size is not understood, or a single tensor
            is larger.
    """
    largest = None if max_shard_size is None else parse_size(max_shard_size)
    names = model_files(source)
    out.mkdir(parents=True, exist_ok=True)
    if dtype is None and largest is None:
        for name in names:
            (out / name).write_bytes((source / name).read_bytes())
        return
    try:
        model = CertifiedForImageClassification.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{source}: the model does not load ({type(error).__name__}: {error}).") from None
    kind = dtype or stored_type(source)
    # Sorted, so that the file of a tensor does not depend on how the model was made.
    state = {name: rounded(name, tensor, kind) for name, tensor in sorted(model.state_dict().items())}
    if largest is not None:
        _check_fits(state, largest, max_shard_size)
    model.save_pretrained(out, state_dict=state, **({} if largest is None else {"max_shard_size": largest}))
    (out / "preprocessor_config.json").write_bytes((source / "preprocessor_config.json").read_bytes())


def rounded(name: str, tensor: Tensor, dtype: StorageType) -> Tensor:
    """A tensor as it is stored: in bfloat16 if that is wanted and it is a convolution's or linear layer's weight."""
    matrix = name.startswith("network.") and tensor.dim() > 1 and tensor.is_floating_point()
    return tensor.to(torch.bfloat16) if dtype == "bfloat16" and matrix else tensor


def parse_size(text: str) -> int:
    """Bytes of a size such as "15MB", in powers of 1000.

    Raises:
        ConfigError: for any other text.
    """
    found = re.fullmatch(r"([1-9]\d*)(KB|MB|GB)", text)
    if found is None:
        raise ConfigError(f"--max-shard-size must be a whole number of KB, MB or GB, such as 15MB; got {text!r}.")
    return int(found[1]) * _UNITS[found[2]]


def _check_fits(state: dict[str, Tensor], largest: int, text: str | None) -> None:
    name, size = max(((name, tensor.nbytes) for name, tensor in state.items()), key=lambda pair: pair[1])
    if size > largest:
        raise ConfigError(
            f"--max-shard-size {text}: {name} alone takes {size:,} bytes, and transformers keeps a tensor in one "
            f"file; give at least {-(-size // 10**6)}MB."
        )
