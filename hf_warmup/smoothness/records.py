"""A probe's measurements and the file that holds them, which no run that goes on or begins anew takes away."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import append_line, finite, write_text


@dataclass(frozen=True)
class SmoothnessRecord:
    """One measurement.

    Attributes:
        step: number of the update, 1-based.
        loss: of the update's batch, before it.
        gap: `loss` minus the lowest loss there is.
        smoothness: |g(w+) - g(w)| / |w+ - w| on that batch, the largest over the segment's points.
        update_norm: |w+ - w|.
        hessian: the Hessian's eigenvalue of largest magnitude at w, None if not asked for.
    """

    step: int
    loss: float
    gap: float
    smoothness: float
    update_norm: float
    hessian: float | None = None


class History:
    """A JSON lines file of one run's records, which a run that goes on continues.

    Records of an earlier process stay if they lie before the first new one; the others belong to updates that are
    made again. A run that begins at its first update moves an earlier run's file aside, to `NAME.1`, `NAME.2`, ...
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: int | None = None

    def append(self, record: SmoothnessRecord) -> None:
        """Add a record.

        Raises:
            ConfigError: if the file that is there is not a probe's.
        """
        if (self._last is None or record.step <= self._last) and self._path.exists():
            self._continue_before(record.step)
        self._last = record.step
        append_line(self._path, asdict(record))

    def _continue_before(self, step: int) -> None:
        earlier = read_records(self._path)
        if step == 1 and earlier:
            names = (self._path.with_name(f"{self._path.name}.{i}") for i in range(1, 1_000_000))
            self._path.rename(next(name for name in names if not name.exists()))
            return
        kept = [record for record in earlier if record.step < step]
        write_text(self._path, "".join(json.dumps(finite(asdict(record))) + "\n" for record in kept))


def read_records(path: Path) -> list[SmoothnessRecord]:
    """A probe's records by step; of two of one step the later counts, and a last line cut short by a kill does not.

    Raises:
        ConfigError: for a file that is missing or not a probe's.
    """
    found: dict[int, SmoothnessRecord] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give the file of SmoothnessProbe(path=...).") from None
    # What follows the last end of a line was cut short by a kill.
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            record = _parsed(line)
        except (ValueError, TypeError, KeyError):
            raise ConfigError(
                f"{path}, line {number}: not a record of SmoothnessProbe(path=...), which has step, loss, gap, "
                f"smoothness and update_norm; got {line[:60]!r}."
            ) from None
        found[record.step] = record
    return [found[step] for step in sorted(found)]


def _parsed(line: str) -> SmoothnessRecord:
    """A record; numbers that were not finite, which JSON has not, are not a number again."""
    values = json.loads(line)
    for name in ("loss", "gap", "smoothness", "update_norm"):
        values[name] = math.nan if values[name] is None else float(values[name])
    record = SmoothnessRecord(**values)
    if type(record.step) is not int:
        raise TypeError
    return record
