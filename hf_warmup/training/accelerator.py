"""Accelerators for `train`, and the group of processes that a launcher has started."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list

from hf_warmup.errors import ConfigError


Answer = TypeVar("Answer")


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
        ConfigError: for fp16 without an accelerator device, a tracker whose package is not installed, or processes
            that were launched for DeepSpeed.
    """
    refuse_deepspeed(os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true")
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


def refuse_deepspeed(is_used: bool) -> None:
    """Refuse DeepSpeed for the package's own loop, whose gradients, clipping and checkpoints are not DeepSpeed's.

    Raises:
        ConfigError: if it is used.
    """
    if is_used:
        raise ConfigError(
            "DeepSpeed cannot run this package's own loop: launch by DDP instead, or train by transformers' Trainer, "
            "where the warmups work under DeepSpeed."
        )


def join_processes(*, cpu: bool = False, patience: timedelta | None = None) -> None:
    """Make one group of the processes that a launcher has started.

    Whatever creates Accelerate's state first decides: without an accelerator device it has to be told `cpu=True`, or
    each process takes itself for the only one.

    Args:
        cpu: compute on the CPU, even if there is an accelerator device.
        patience: how long processes wait for each other before they give up; torch's default for None.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    waiting = {} if patience is None else {"timeout": patience}
    if cpu or not torch.accelerator.is_available():
        PartialState(cpu=True, **waiting)
    elif waiting:
        PartialState(**waiting)


def decide(question: Callable[[], Answer]) -> Answer:
    """The main process's answer, on all processes; what it raises there is raised on all.

    Whatever depends on a disk is asked in this way: the processes' disks may differ, and processes that disagree
    about what comes next wait for each other for ever.
    """
    if PartialState().num_processes == 1:
        return question()
    told: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            told[0] = question()
        except Exception as error:
            told[1] = error
    answer, failure = broadcast_object_list(told)
    if failure is not None:
        raise failure
    return answer  # type: ignore[no-any-return]
