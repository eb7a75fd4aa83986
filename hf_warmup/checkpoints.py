"""Accelerate's checkpoints, made atomic: a folder under its final name is complete, and only the newest is kept."""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin

from hf_warmup.errors import ConfigError


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


def make_accelerator(
    *,
    mixed_precision: str = "no",
    gradient_accumulation_steps: int = 1,
    log_with: Sequence[str] = (),
    project_dir: Path | None = None,
) -> Accelerator:
    """An Accelerator for `train`: accumulation runs on across epochs, and what it would silently ignore is refused.

    Args:
        mixed_precision: "no", "bf16" or "fp16".
        gradient_accumulation_steps: batches per update and process.
        log_with: names of trackers, such as "tensorboard".
        project_dir: where file-based trackers write.

    Raises:
        ConfigError: for fp16 without an accelerator device, or a tracker whose package is not installed.
    """
    missing = sorted(set(log_with) - {str(name.value) for name in get_available_trackers()})
    if missing:
        raise ConfigError(
            f"log_with asks for {', '.join(missing)}, not installed here: pip install {' '.join(missing)}."
        )
    if mixed_precision == "fp16" and PartialState().device.type == "cpu":
        raise ConfigError("mixed_precision 'fp16' is not possible on a CPU (no gradient scaler); use 'bf16' or 'no'.")
    return Accelerator(
        mixed_precision=mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=gradient_accumulation_steps, adjust_scheduler=False, sync_with_dataloader=False
        ),
        log_with=list(log_with) or None,
        project_dir=project_dir,
    )


def join_processes() -> None:
    """Make one group of the processes that a launcher has started.

    Whatever creates Accelerate's state first decides: without an accelerator device it has to be told `cpu=True`, or
    each process takes itself for the only one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
        PartialState(cpu=True)
