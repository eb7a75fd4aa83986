"""What is reported is first stored: JSON documents replaced whole, and JSON lines that grow and are sealed at the end.

A file under its final name is always complete: documents are written beside it and moved into place, and a growing
file of lines carries the suffix `.partial` until it is sealed. Non-finite numbers become null, as JSON has none.
Deliberately absent: what the records mean.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError, first_line


Record = dict[str, Any]


def finite(value: Any) -> Any:
    """`value` with every non-finite float in it, at any depth, replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all, whenever the process is killed; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Put `document` at `path` as JSON, whole or not at all; the same document always gives the same bytes."""
    text = json.dumps(finite(document), indent=1, allow_nan=False)
    # Lists of numbers on one line each: a curve is one value, not two hundred.
    text = re.sub(r"\[[\s\d.,eE+\-nul]*\]", lambda match: " ".join(match[0].split()), text)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """The document that `write_json` put at `path`.

    Raises:
        ConfigError: if the file is cut or holds no JSON.
        OSError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: it cannot be read as JSON ({first_line(error)}).") from None


def read_lines(path: Path) -> Iterator[Record]:
    """The records of a file of JSON lines; a last line cut short by a kill is dropped."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def append_line(path: Path, record: Record) -> None:
    """Add one record to a file of JSON lines, which is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


class RecordFile:
    """A growing file of records at `path` + `.partial`, moved to `path` by `seal`.

    Args:
        path: the name of the finished file.
        keep: records of an earlier, interrupted run to start with.
    """

    def __init__(self, path: Path, *, keep: Iterable[Record] = ()) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        # One process writes a cell, so a fixed name will do, and nothing is left over when it is killed here.
        fresh = path.with_name(path.name + ".new")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text("".join(_line(record) for record in keep), encoding="utf-8")
        fresh.replace(self.partial)
        self._file = self.partial.open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Add one record and hand it to the operating system at once."""
        self._file.write(_line(record))
        self._file.flush()

    def seal(self) -> None:
        """Declare the file complete: from now on it stands under its final name."""
        os.fsync(self._file.fileno())
        self._file.close()
        self.partial.replace(self.path)

    def close(self) -> None:
        """Stop without declaring the file complete."""
        self._file.close()


def _line(record: Record) -> str:
    return json.dumps(finite(record), allow_nan=False) + "\n"
