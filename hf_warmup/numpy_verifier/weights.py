"""A stored model with NumPy and the standard library alone: one safetensors file, or shards and their index; settings.

NumPy has no bfloat16: its bits are the upper half of a float32's, so every number stays what it was. Deliberately
absent: tensors that no checkpoint here has, such as float16.
"""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier.reading import count, parse_object, read_object
else:  # Beside a file that is run by its path.
    from reading import count, parse_object, read_object  # type: ignore[import-not-found,no-redef]


WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BF16": "<u2"}


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights, in order: the whole, or all its shards.

    Raises:
        ValueError: if there are others, or some are missing.
    """
    files = sorted(folder.glob("*.safetensors"))
    names = [file.name for file in files]
    sharded = (folder / INDEX).exists()
    parts = [f"model-{part:05d}-of-{len(names):05d}.safetensors" for part in range(1, len(names) + 1)]
    if names != (parts if sharded else [WHOLE]) or not names:
        found = ", ".join([*names, *([INDEX] if sharded else [])]) or "nothing"
        raise ValueError(
            f"{folder}: expected {WHOLE} and no other weights, or all of model-00001-of-N.safetensors to "
            f"model-N-of-N.safetensors and {INDEX}; found {found}."
        )
    return files


def is_shard(name: str) -> bool:
    """Whether a file may be one of several that hold the weights."""
    return _SHARD.fullmatch(name) is not None


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the bytes of all files of the weights, in order; raises as `weight_files`."""
    digest = hashlib.sha256()
    for file in weight_files(folder):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def settings_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of each JSON file that a folder's model and its image processor are loaded with, by its name.

    It is that of the file's content, written with sorted keys and without white space, less `auto_map`: that names
    code, which is no part of what is proven, and which `package --code` adds.

    Raises:
        ValueError: if a file is no JSON object, read strictly.
        OSError: without a config.json.
    """
    files = sorted({folder / "config.json", *folder.glob("*processor_config.json")})
    found = {}
    for file in files:
        content = {key: value for key, value in read_object(file).items() if key != "auto_map"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        found[file.name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def read_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a folder by their names, those in bfloat16 as float32.

    Raises:
        ValueError: as `weight_files` and `read_safetensors`; or if the index is not that of the shards, by which
            others would load something else.
        OSError: if a file cannot be read.
    """
    tensors: dict[str, NDArray[Any]] = {}
    places: dict[str, str] = {}
    for file in weight_files(folder):
        found = read_safetensors(file.read_bytes())
        if twice := sorted(found.keys() & tensors.keys()):
            raise ValueError(f"{folder}: {twice[0]} is stored twice.")
        tensors |= found
        places |= dict.fromkeys(found, file.name)
    if (folder / INDEX).exists():
        try:
            stated = read_object(folder / INDEX)["weight_map"]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{folder / INDEX}: no index can be read ({error}).") from None
        if stated != places:
            raise ValueError(f"{folder}: {INDEX} is not that of the shards.")
    return tensors


def read_safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file: 8 bytes of header length, a JSON header, then the numbers without gaps.

    Raises:
        ValueError: for anything but F32, F64, BF16 and I64 tensors that cover the data exactly once.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("safetensors: the file is cut off, or the length of its header is wrong.")
    try:
        header = parse_object(data[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        places: list[Any] = sorted((*map(count, entry["data_offsets"]), name) for name, entry in entries.items())
        body, end = data[8 + length :], 0
        tensors: dict[str, NDArray[Any]] = {}
        for first, last, name in places:
            kind, shape = entries[name]["dtype"], tuple(map(count, entries[name]["shape"]))
            dtype = np.dtype(_DTYPES[kind])
            if first != end or last > len(body) or last - first != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"tensor {name!r} overlaps, leaves a gap, or has another size than its shape")
            stored: NDArray[Any] = np.frombuffer(body[first:last], dtype).reshape(shape)
            tensors[name], end = _widened(stored) if kind == "BF16" else stored, last
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"safetensors: its header cannot be used ({error}).") from None
    if end != len(body):
        raise ValueError(f"safetensors: {len(body) - end} bytes belong to no tensor.")
    return tensors


def _widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
