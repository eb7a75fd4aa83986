"""Accelerate's checkpoints, made atomic: a folder under its final name is complete, and only the newest is kept."""

import logging
import shutil
from pathlib import Path

from accelerate import Accelerator


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
    """Saves to and resumes from one folder.

    Args:
        accelerator: holds what is to be saved (everything prepared or registered with it).
        folder: where; None makes `resume` start at 0.
    """

    def __init__(self, accelerator: Accelerator, folder: Path | None) -> None:
        self._accelerator = accelerator
        self._folder = folder

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one, and return the number of updates made before it."""
        latest = latest_checkpoint(self._folder)
        if latest is None:
            return 0
        path, step = latest
        self._accelerator.load_state(str(path))
        logger.info("resumed from %s, after %d updates", path, step)
        return step

    def save(self, step: int) -> None:
        """Save everything as it is after `step` updates, and drop older checkpoints."""
        if self._folder is None:
            raise ValueError("no checkpoint folder was given.")
        final = self._folder / f"{_PREFIX}{step:08d}"
        partial = final.with_suffix(".partial")
        self._accelerator.save_state(str(partial))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
            for path in self._folder.glob(f"{_PREFIX}*"):
                if path != final:
                    shutil.rmtree(path)
        self._accelerator.wait_for_everyone()
