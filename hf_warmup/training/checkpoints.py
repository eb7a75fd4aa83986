"""Accelerate's checkpoints, made atomic: a folder under its final name is complete, and only the newest is kept.

The main process says which checkpoint there is, and all others follow. One run at a time uses a folder.
"""

import logging
import platform
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from hf_warmup.errors import ConfigError
from hf_warmup.records.lock import Lock
from hf_warmup.training.accelerator import decide


logger = logging.getLogger(__name__)

_PREFIX = "step_"


def latest_checkpoint(folder: Path | None) -> tuple[Path, int] | None:
    """The newest complete checkpoint in `folder` and the number of updates made before it, or None."""
    found = [] if folder is None else [path for path in folder.glob(f"{_PREFIX}*") if path.suffix != ".partial"]
    if not found:
        return None
    newest = max(found, key=_updates)
    return newest, _updates(newest)


def _updates(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


class Checkpoints:
    """Saves to and resumes from one folder, which it holds from `resume` until the end of the `with` block.

    Args:
        accelerator: holds what is to be saved (everything prepared or registered with it).
        folder: where; None makes `resume` start at 0.
    """

    def __init__(self, accelerator: Accelerator, folder: Path | None) -> None:
        self._accelerator = accelerator
        self._folder = folder
        self._lock = None if folder is None else Lock(folder / "folder.lock")

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one, and return the number of updates made before it.

        Raises:
            ConfigError: if another run uses the folder, or a process does not see the checkpoint.
        """
        latest = decide(self._open)
        if latest is None:
            return 0
        path, step = latest
        blind = [name for name in gather_object([None if path.is_dir() else platform.node()]) if name is not None]
        if blind:
            raise ConfigError(
                f"the main process resumes from {path}, which processes on {', '.join(sorted(set(blind)))} do not "
                f"see; put the folder on a disk that all share, or remove it to begin the run again."
            )
        self._accelerator.load_state(str(path))
        logger.info("resumed from %s, after %d updates", path, step)
        return step

    def _open(self) -> tuple[Path, int] | None:
        if self._lock is not None and not self._lock.acquire():
            raise ConfigError(
                f"{self._folder} is in use by {self._lock.holder()}; wait for it, or choose another checkpoint_dir."
            )
        return latest_checkpoint(self._folder)

    def save(self, step: int) -> None:
        """Save everything as it is after `step` updates, and drop older checkpoints."""
        if self._folder is None:
            raise ValueError("no checkpoint folder was given.")
        final = self._folder / f"{_PREFIX}{step:08d}"
        partial = final.with_suffix(".partial")
        if self._accelerator.is_main_process:
            # What a killed process has left must not be taken for a part of this checkpoint.
            shutil.rmtree(partial, ignore_errors=True)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(partial))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
            for path in self._folder.glob(f"{_PREFIX}*"):
                if path != final:
                    shutil.rmtree(path)
        self._accelerator.wait_for_everyone()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()


class NonfiniteStreak:
    """Number of non-finite updates on end; a checkpoint keeps it, so that a resumed run diverges where it would."""

    def __init__(self) -> None:
        self.length = 0

    def state_dict(self) -> dict[str, Any]:
        """As Accelerate stores it."""
        return {"length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As it was stored."""
        self.length = int(state["length"])
