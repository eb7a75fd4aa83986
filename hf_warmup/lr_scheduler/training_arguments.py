"""Read what a `training_args.bin` of transformers says, without running any of it.

The file is a pickle inside a zip archive. A pickle can name any function to be called; here every name becomes an
inert `_Named`, so nothing is imported and nothing is called, whatever the file holds.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError


class _Named:
    """Stands where the pickle names a class or a function; it remembers what it was called with."""

    # Objects that are made without a call have none.
    values: tuple[Any, ...] = ()

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __setstate__(self, state: Any) -> None:
        # Not into `__dict__`: a state may hold any key.
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A class of its own for each name, since the pickle may ask for `__new__`."""
        return type(name, (_Named,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Tensors are not read."""
        return _Named(pid)


def read_training_arguments(path: Path) -> dict[str, Any]:
    """The fields of a stored `TrainingArguments`: numbers, texts, lists and dictionaries; enumerations by their value.

    Args:
        path: a `training_args.bin` as `Trainer` stores it in every checkpoint.

    Raises:
        ConfigError: for a file that is not one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("data.pkl")]
            with archive.open(name) as content:
                found = _Reader(content).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ConfigError(
            f"{path} cannot be read as training arguments ({type(error).__name__}); it must be the training_args.bin "
            f"that transformers' Trainer stores."
        ) from None
    if not isinstance(found, _Named) or not isinstance(getattr(found, "state", None), dict):
        raise ConfigError(f"{path} holds no TrainingArguments.")
    return {key: _plain(value) for key, value in found.state.items()}


def _plain(value: Any) -> Any:
    """A value without classes: an enumeration's member is called with its value, and is that value."""
    if isinstance(value, _Named):
        return _plain(value.values[0]) if value.values else None
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
