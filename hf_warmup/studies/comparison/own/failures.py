"""What is told of a run that could not be made: its reason in one line, and its last words.

Such a run counts as one without a score, and is tried again at the next start. Deliberately absent: divergence, which
is a result.
"""

import re
import signal
import traceback
from collections.abc import Sequence

from accelerate import PartialState

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.models.factory import described
from hf_warmup.records.files import Record


# Lines of a traceback or a script's output that a failed run keeps.
LAST_LINES = 12
# Above an exception's own line; torch writes the process in front where there are several.
_PROCESS, _TRACEBACK = r"^(\[rank\d+\]: ?)?", "Traceback (most recent call last):"
# What launchers raise themselves when one of their processes has failed.
_OF_LAUNCHERS = ("CalledProcessError", "ChildFailedError")


def failed_record(reason: str, lines: Sequence[str]) -> Record:
    """The last record of a run that failed."""
    return {"kind": "failed", "reason": reason, "lines": list(lines)[-LAST_LINES:]}


def failed_by(error: BaseException, run: str) -> Record:
    """The record of a run that an exception has ended, with the end of its traceback.

    Raises:
        ConfigError: if several processes share the run, as the others do not know of the exception.
    """
    if (processes := PartialState().num_processes) > 1:
        raise ConfigError(
            f"{run} failed in process {PartialState().process_index} of {processes} ({described(error)}); the same "
            f"command goes on with the runs that are missing."
        ) from error
    said = first_line(error)
    kind = type(error).__name__
    return failed_record(
        kind if said == kind else f"{kind}: {said}",
        "".join(traceback.format_exception(error)).splitlines(),
    )


def reason_of_output(lines: Sequence[str], code: int) -> str:
    """Why a process has failed, in one line.

    Args:
        lines: what it has written, without empty lines.
        code: its exit code, negative for a signal.

    >>> reason_of_output(["Traceback (most recent call last):", '  File "x.py", line 3', "ValueError: no", "more"], 1)
    'ValueError: no'
    >>> reason_of_output(["x.py: error: unrecognized arguments: --lr"], 2)
    'x.py: error: unrecognized arguments: --lr'
    >>> reason_of_output(["step 3"], -9)
    'killed by SIGKILL'
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    found, inside = "", False
    for line in (re.sub(_PROCESS, "", line) for line in lines):
        if line.strip() == _TRACEBACK:
            inside = True
        elif inside and line[:1].strip():
            inside = False
            # A launcher's traceback follows that of the process which it has started.
            if not any(name in line for name in _OF_LAUNCHERS) or not found:
                found = line
    return found or (lines[-1].strip() if lines else f"exit code {code}, without a word")
