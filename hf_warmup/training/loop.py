"""The one training loop: a generator of records over Accelerate.

Whoever iterates prints, plots, stores or stops; there are no callbacks. One step is one optimizer update, whatever the
number of processes or accumulated batches. The scheduler is *not* prepared: Accelerate's wrapper would advance it once
per process. Checkpoints hold model, optimizer, scheduler, gradient scaler and random states, and a resumed run is
the unbroken one, bit for bit on one CPU process. Random transforms of the data belong in the objective, where their
random numbers can be restored, or are functions of epoch and index, as `Augmentation` is. Deliberately absent: what
is trained, and on what.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from hf_warmup.data.loaders import ShuffledSampler, endless_batches
from hf_warmup.data.random_streams import stream_seed
from hf_warmup.smoothness import SmoothnessProbe
from hf_warmup.training.accelerator import refuse_deepspeed
from hf_warmup.training.checkpoints import Checkpoints, NonfiniteStreak
from hf_warmup.training.config import TrainConfig
from hf_warmup.training.records import DivergedRecord, EvaluationRecord, TrainRecord
from hf_warmup.training.update import Objective, Update, check_reads_can_wait, make_update, read_update


Evaluate = Callable[[nn.Module, int], dict[str, float]]


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
        model, optimizer: as they are, or prepared by `accelerator`; all processes pass the same.
        scheduler: built on the plain optimizer; advanced once per update that was really made.
        loader: not prepared; from `shuffled_loader`, or any with a length whose order depends on its epoch alone.
        objective: `(model, batch, step) -> (loss, metrics)` with a scalar loss and metrics that are numbers or scalar
            tensors; step is 0-based.
        config: see `TrainConfig`.
        evaluate: `(model, step) -> metrics`, called in eval mode without gradients.
        probe: measures the curvature along the run, which it leaves as it is.

    Yields:
        A `StepRecord` per update, an `EvaluationRecord` per evaluation, at most one `DivergedRecord` as the last.
        After resuming, records start behind the checkpoint.

    Raises:
        ConfigError: if the accelerator is DeepSpeed's, another run uses `checkpoint_dir`, or a process does not see
            the checkpoint there.
        ValueError: if the loader has no length or shuffles in an order that cannot be returned to, or something needs
            each update's numbers at once and `read_every` is more than 1.
    """
    refuse_deepspeed(accelerator.distributed_type is DistributedType.DEEPSPEED)
    _check_loader(loader)
    if config.read_every > 1:
        check_reads_can_wait(accelerator, optimizer, scheduler, config, probe)
    model, prepared, loader = accelerator.prepare(model, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler)
    streak = NonfiniteStreak()
    accelerator.register_for_checkpointing(streak)
    set_seed(stream_seed(config.seed, "training", accelerator.process_index))
    with Checkpoints(accelerator, config.checkpoint_dir) as checkpoints:
        start = checkpoints.resume()
        batches = endless_batches(loader, start=start * accelerator.gradient_accumulation_steps)
        make = partial(make_update, accelerator, model, prepared, scheduler, batches, objective, config, probe)
        evaluation = None if evaluate is None else partial(_evaluate, model, evaluate)
        yield from _from(start, make, evaluation, config, streak, checkpoints)


def _from(
    start: int,
    make: Callable[[int], Update],
    evaluate: Callable[[int], dict[str, float]] | None,
    config: TrainConfig,
    streak: NonfiniteStreak,
    checkpoints: Checkpoints,
) -> Iterator[TrainRecord]:
    """The records of all updates behind the first `start`; see `train`."""
    unread: list[Update] = []
    for step in range(start, config.num_training_steps):
        unread.append(make(step))
        made = step + 1
        evaluation = evaluate is not None and _is_due(made, config.evaluate_every, config.num_training_steps)
        checkpoint = config.checkpoint_every is not None and made % config.checkpoint_every == 0
        if not (evaluation or checkpoint or _is_due(made, config.read_every, config.num_training_steps)):
            continue
        for record in map(read_update, unread):
            yield record
            streak.length = streak.length + 1 if record.skipped else 0
            if streak.length >= config.max_nonfinite_steps:
                yield DivergedRecord(record.step)
                return
        unread.clear()
        if evaluate is not None and evaluation:
            yield EvaluationRecord(made, evaluate(made))
        if checkpoint:
            checkpoints.save(made)


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
