"""The one training loop: a generator of records over Accelerate.

Whoever iterates prints, plots, stores or stops; there are no callbacks. One step is one optimizer update, whatever the
number of processes or accumulated batches. The scheduler is *not* prepared: Accelerate's wrapper would advance it once
per process. Checkpoints hold model, optimizer, scheduler, gradient scaler and random states, and a resumed run is
the unbroken one, bit for bit on one CPU process. Random transforms of the data belong in the objective, not in the
data set: there alone their random numbers can be restored. Deliberately absent: what is trained, and on what.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from hf_warmup.checkpoints import Checkpoints
from hf_warmup.loaders import ShuffledSampler, endless_batches
from hf_warmup.smoothness import SmoothnessProbe
from hf_warmup.update_statistics import UpdateProbe


Batch = Mapping[str, torch.Tensor]
Objective = Callable[[nn.Module, Batch, int], tuple[torch.Tensor, Mapping[str, Any]]]
Evaluate = Callable[[nn.Module, int], dict[str, float]]


@dataclass(frozen=True)
class TrainConfig:
    """How long, how hard and how closely watched a run is.

    Attributes:
        num_training_steps: length of the run in optimizer updates, >= 1.
        seed: of the dropout stream (each process has its own); the data order belongs to the loader.
        max_grad_norm: gradients are clipped to this global L2 norm; None leaves them as they are.
        evaluate_every: updates between evaluations; the last update is always followed by one. None: only that one.
        checkpoint_every: updates between checkpoints; None makes none.
        checkpoint_dir: folder of the checkpoints; training goes on from the newest one found there.
        update_statistics_every: updates between measurements of the update's size; the first 100 are all measured.
            0 measures none.
        max_nonfinite_steps: a run ends, as diverged, after this many non-finite updates on end.
    """

    num_training_steps: int
    seed: int = 0
    max_grad_norm: float | None = 1.0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    checkpoint_dir: Path | None = None
    update_statistics_every: int = 1
    max_nonfinite_steps: int = 5

    def __post_init__(self) -> None:
        for name in ("num_training_steps", "evaluate_every", "checkpoint_every", "max_nonfinite_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {self.max_grad_norm}; None turns clipping off.")
        if self.checkpoint_every is not None and self.checkpoint_dir is None:
            raise ValueError("checkpoint_every needs checkpoint_dir: where should the checkpoints go?")


@dataclass(frozen=True)
class StepRecord:
    """One optimizer update.

    Attributes:
        step: number of the update, 1-based (the papers' t).
        loss: mean over the update's batches and processes.
        lr: learning rate of the first parameter group, and `multiplier`, that over its base learning rate.
        grad_norm: global L2 norm before clipping.
        skipped: the update was not made, because its gradients were not finite.
        update_mean, update_ratio_mean, update_ratio_median: see `UpdateStatistics`; None where not measured.
        metrics: what the objective returned for the update's last batch.
    """

    step: int
    loss: float
    lr: float
    multiplier: float
    grad_norm: float
    skipped: bool = False
    update_mean: float | None = None
    update_ratio_mean: float | None = None
    update_ratio_median: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """What `evaluate` returned after update number `step`."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class DivergedRecord:
    """The run ended at update number `step`, since gradients had stopped being finite."""

    step: int


TrainRecord = StepRecord | EvaluationRecord | DivergedRecord


def train(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    loader: DataLoader[Any],
    objective: Objective,
    config: TrainConfig,
    *,
    evaluate: Evaluate | None = None,
    probe: SmoothnessProbe | None = None,
) -> Iterator[TrainRecord]:
    """Train, one record at a time.

    Args:
        accelerator: from `make_accelerator`; it says how many batches one update accumulates.
        model, optimizer, loader: as they are, not prepared; all processes pass the same.
        scheduler: built on the plain optimizer; advanced once per update that was really made.
        loader: from `shuffled_loader`, or any loader with a length whose order depends on its epoch alone.
        objective: `(model, batch, step) -> (loss, metrics)` with a scalar loss and metrics that are numbers or scalar
            tensors; step is 0-based.
        config: see `TrainConfig`.
        evaluate: `(model, step) -> metrics`, called in eval mode without gradients.
        probe: measures the curvature along the run, which it leaves as it is.

    Yields:
        A `StepRecord` per update, an `EvaluationRecord` per evaluation, at most one `DivergedRecord` as the last.
        After resuming, records start behind the checkpoint.

    Raises:
        ValueError: if the loader has no length or shuffles in an order that cannot be returned to.
    """
    _check_loader(loader)
    model, prepared, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler)
    set_seed(config.seed, device_specific=True)
    checkpoints = Checkpoints(accelerator, config.checkpoint_dir)
    start = checkpoints.resume()
    batches = endless_batches(loader, start=start * accelerator.gradient_accumulation_steps)
    nonfinite = 0
    for step in range(start, config.num_training_steps):
        record = _update(accelerator, model, prepared, scheduler, batches, objective, config, step, probe)
        yield record
        nonfinite = nonfinite + 1 if record.skipped else 0
        if nonfinite >= config.max_nonfinite_steps:
            yield DivergedRecord(record.step)
            return
        if evaluate is not None and _is_due(record.step, config.evaluate_every, config.num_training_steps):
            yield EvaluationRecord(record.step, _evaluate(model, evaluate, record.step))
        if config.checkpoint_every is not None and record.step % config.checkpoint_every == 0:
            checkpoints.save(record.step)


def _update(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    scheduler: LRScheduler,
    batches: Iterator[Batch],
    objective: Objective,
    config: TrainConfig,
    step: int,
    curvature: SmoothnessProbe | None,
) -> StepRecord:
    losses: list[torch.Tensor] = []
    used: list[Batch] = []
    metrics: Mapping[str, Any] = {}
    model.train()
    for _ in range(accelerator.gradient_accumulation_steps):
        with accelerator.accumulate(model):
            used.append(next(batches))
            loss, metrics = objective(model, used[-1], step)
            accelerator.backward(loss)
            losses.append(loss.detach().float())
    loss_mean = float(accelerator.reduce(torch.stack(losses).mean(), reduction="mean"))
    # Unscales under fp16, hence also without clipping.
    limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
    grad_norm = float(accelerator.clip_grad_norm_(model.parameters(), limit))
    lr = float(optimizer.param_groups[0]["lr"])
    measured = config.update_statistics_every and (step < 100 or step % config.update_statistics_every == 0)
    finite = math.isfinite(loss_mean) and math.isfinite(grad_norm)
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
    plain = {name: float(value) for name, value in metrics.items()}
    multiplier = lr / float(scheduler.base_lrs[0]) if scheduler.base_lrs[0] else 0.0
    return StepRecord(step + 1, loss_mean, lr, multiplier, grad_norm, skipped, metrics=plain, **statistics)


def _loss_of(objective: Objective, batch: Batch, step: int, model: nn.Module) -> torch.Tensor:
    return objective(model, batch, step)[0]


def _is_decoupled(optimizer: Any) -> bool:
    group = optimizer.param_groups[0]
    return bool(group.get("decoupled_weight_decay", True))


def _is_due(step: int, every: int | None, last: int) -> bool:
    return step == last or (every is not None and step % every == 0)


def _evaluate(model: nn.Module, evaluate: Evaluate, step: int) -> dict[str, float]:
    model.eval()
    state = torch.random.get_rng_state()
    with torch.no_grad():
        metrics = evaluate(model, step)
    torch.random.set_rng_state(state)
    return metrics


def _check_loader(loader: DataLoader[Any]) -> None:
    try:
        len(loader)
    except TypeError:
        raise ValueError("train() needs a loader with a length; wrap a stream with datasets' `take` first.") from None
    sampler = loader.sampler
    if isinstance(sampler, torch.utils.data.RandomSampler) and not isinstance(sampler, ShuffledSampler):
        raise ValueError(
            "the loader shuffles in an order that a resumed run could not return to; build it with "
            "hf_warmup.shuffled_loader(dataset, batch_size=..., seed=...)."
        )
