"""One optimizer update: gradients of its batches, clipping, the optimizer's step and the schedule's."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from hf_warmup.smoothness import SmoothnessProbe
from hf_warmup.training.config import TrainConfig
from hf_warmup.training.records import StepRecord
from hf_warmup.training.update_size import UpdateProbe


Batch = Mapping[str, torch.Tensor]
Objective = Callable[[nn.Module, Batch, int], tuple[torch.Tensor, Mapping[str, Any]]]


@dataclass(frozen=True)
class Update:
    """An update that was made, whose numbers may still be on the device; see `StepRecord`.

    Attributes:
        step: its number, 0-based.
        skipped: None where the optimizer has decided it on the device.
        statistics: of the update's size, where they were measured.
    """

    step: int
    lr: float
    base_lr: float
    loss: torch.Tensor
    grad_norm: torch.Tensor
    metrics: Mapping[str, Any]
    skipped: bool | None
    statistics: Mapping[str, float]


def read_update(update: Update) -> StepRecord:
    """The update's record; waits until the device has made it."""
    loss, grad_norm = float(update.loss), float(update.grad_norm)
    skipped = update.skipped
    if skipped is None:
        skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
    multiplier = update.lr / update.base_lr if update.base_lr else 0.0
    metrics = {name: float(value) for name, value in update.metrics.items()}
    return StepRecord(
        update.step + 1, loss, update.lr, multiplier, grad_norm, skipped, metrics=metrics, **update.statistics
    )


def make_update(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    scheduler: LRScheduler,
    batches: Iterator[Batch],
    objective: Objective,
    config: TrainConfig,
    curvature: SmoothnessProbe | None,
    step: int,
) -> Update:
    """Make update number `step`, 0-based; arguments as `train`'s, prepared."""
    used = [next(batches) for _ in range(accelerator.gradient_accumulation_steps)]
    loss, metrics = _gradients(accelerator, model, objective, used, step)
    # Unscales under fp16, hence also without clipping.
    limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
    grad_norm = accelerator.clip_grad_norm_(model.parameters(), limit)
    lr = float(optimizer.param_groups[0]["lr"])
    made = partial(Update, step, lr, float(scheduler.base_lrs[0]), loss, grad_norm, metrics)
    if config.read_every > 1:
        _step_where_finite(optimizer, loss, grad_norm)
        scheduler.step()
        optimizer.zero_grad()
        return made(skipped=None, statistics={})
    loss_mean = float(loss)
    finite = math.isfinite(loss_mean) and math.isfinite(float(grad_norm))
    measured = config.update_statistics_every and (step < 100 or step % config.update_statistics_every == 0)
    probe = UpdateProbe(optimizer, decoupled_weight_decay=_is_decoupled(optimizer)) if measured and finite else None
    if probe is not None:
        probe.before()
    if curvature is not None and curvature.is_due(step + 1) and finite:
        curvature.before(model, *(partial(_loss_of, objective, batch, step) for batch in used), step=step + 1)
    # A gradient scaler must see overflowing gradients to lower its scale; everybody else is better off without them.
    if finite or accelerator.scaler is not None:
        optimizer.step()
    if curvature is not None:
        curvature.after()
    skipped = not finite or bool(accelerator.optimizer_step_was_skipped)
    statistics = asdict(probe.after()) if probe is not None and not skipped else {}
    if not skipped:
        if hasattr(scheduler, "observe"):
            scheduler.observe(loss_mean)
        scheduler.step()
    optimizer.zero_grad()
    return made(skipped=skipped, statistics=statistics)


def _step_where_finite(optimizer: Any, *values: torch.Tensor) -> None:
    """The optimizer's step, or none where a value is not finite, as the device finds without the host's help."""
    # As a gradient scaler does: kernels of fused optimizers look at this flag.
    optimizer.optimizer.found_inf = 1.0 - torch.stack(values).isfinite().all().float()
    optimizer.step()
    del optimizer.optimizer.found_inf


def _gradients(
    accelerator: Accelerator, model: nn.Module, objective: Objective, batches: list[Batch], step: int
) -> tuple[torch.Tensor, Mapping[str, Any]]:
    """Leaves an update's gradients with the parameters; the mean loss of all batches, and the last one's metrics."""
    losses: list[torch.Tensor] = []
    metrics: Mapping[str, Any] = {}
    model.train()
    for batch in batches:
        with accelerator.accumulate(model):
            loss, metrics = objective(model, batch, step)
            accelerator.backward(loss)
            losses.append(loss.detach().float())
    return accelerator.reduce(torch.stack(losses).mean(), reduction="mean"), metrics


def _loss_of(objective: Objective, batch: Batch, step: int, model: nn.Module) -> torch.Tensor:
    return objective(model, batch, step)[0]


def _is_decoupled(optimizer: Any) -> bool:
    group = optimizer.param_groups[0]
    return bool(group.get("decoupled_weight_decay", True))


def check_reads_can_wait(
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    config: TrainConfig,
    probe: SmoothnessProbe | None,
) -> None:
    """Refuse what needs each update's numbers at once.

    Raises:
        ValueError: naming all that does.
    """
    reasons = {
        "the optimizer is not a fused one (fused=True)": not all(g.get("fused") for g in optimizer.param_groups),
        "the scheduler follows the loss": hasattr(scheduler, "observe"),
        "fp16 has a gradient scaler": accelerator.scaler is not None,
        "update statistics are measured (update_statistics_every is not 0)": config.update_statistics_every != 0,
        "the curvature is measured": probe is not None,
    }
    needs = [reason for reason, holds in reasons.items() if holds]
    if needs:
        raise ValueError(f"read_every={config.read_every} is not possible: {'; '.join(needs)}. Use read_every=1.")
