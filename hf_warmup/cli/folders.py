"""Whether a folder that a command is to fill can be filled, asked before anything is computed."""

import os
from pathlib import Path

from hf_warmup.errors import ConfigError


def writable(out: Path | None) -> Path | None:
    """`out` as it is; nothing is made.

    Raises:
        ConfigError: if `out`, or the nearest folder above it that exists, is a file or cannot be written to.
    """
    if out is None:
        return None
    try:
        place = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"--out {out}: no such folder can be made ({error.strerror}); name another.") from None
    if not place.is_dir():
        raise ConfigError(f"--out {out}: {place} is a file, not a folder; name another folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: {place} cannot be written to; name another folder.")
    return out
