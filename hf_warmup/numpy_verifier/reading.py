"""JSON read strictly, with the standard library alone: one reading of each file, or none.

Python's own reader takes the last of two equal keys, NaN and Infinity, and numbers that overflow; another reader may
see another document in such a file.
"""

import json
import math
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises ValueError if there is none, OSError if there is no file."""
    try:
        return parse_object(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON can be read ({error}).") from None


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        ValueError: for bytes that are not UTF-8, no JSON or no object; for a key that stands twice in an object; for
            NaN, Infinity or a number that is too large for a float64; for half of a surrogate pair, which is no text.
        RecursionError: for what is nested too deeply.
    """
    found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    # What is half a character cannot be printed, nor written to a file.
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def count(value: Any) -> int:
    """A JSON number that counts something; raises ValueError for any other."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value
