"""Locks between processes, on any number of machines that share a disk; the system frees those of a dead process."""

import os
import platform
import time
from pathlib import Path

from filelock import FileLock, Timeout

from hf_warmup.records.files import read_json, write_json


class Lock:
    """Held by one process at a time, which writes beside it who it is.

    A process that holds it may take it again, and then has to release it as often: what an interrupted cell of a
    notebook has left behind must not lock out the next.

    Args:
        path: of the lock; the file stays, since a lock that is removed can be held twice.
    """

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path, thread_local=False, is_singleton=True)
        self._note = path.with_suffix(".holder")

    def acquire(self, *, wait: float = 0) -> bool:
        """Whether this process holds the lock now, after at most `wait` seconds.

        Raises:
            OSError: if the file cannot be made.
        """
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=wait, poll_interval=0.25)
        except Timeout:
            return False
        write_json(self._note, {"pid": os.getpid(), "host": platform.node()})
        return True

    def release(self) -> None:
        """Let others have it; nothing happens if this process does not hold it."""
        if self._lock.lock_counter == 1:
            self._note.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> str:
        """Who holds the lock, as far as it is known."""
        for wait in (0.05, 0.2, 0):
            try:
                note = read_json(self._note)
                return f"process {note['pid']} on {note['host']}"
            except (OSError, ValueError, KeyError):
                # Whoever has just taken the lock signs a moment later.
                time.sleep(wait)
        return "another process"
