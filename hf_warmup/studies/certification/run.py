"""One run of certified training: a method and a seed, from initialization to the certified test score."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from hf_warmup.certified import CertifiedObjective, LayerHealth, parse_eps
from hf_warmup.data.augmentation import Augmentation
from hf_warmup.data.images import ImageData, same
from hf_warmup.data.loaders import shuffled_loader
from hf_warmup.data.random_streams import stream_seed
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler
from hf_warmup.records.files import Record
from hf_warmup.schedules import Schedule, constant, multistep_decay, smoothed_ramp
from hf_warmup.studies.certification.config import CertifiedArmConfig, CertifiedStudyConfig, CertifiedTrainingConfig
from hf_warmup.studies.certification.method import make_method
from hf_warmup.studies.certification.model import make_model, save_model
from hf_warmup.studies.certification.plan import CertifiedCell
from hf_warmup.studies.certification.watching import Evaluation
from hf_warmup.studies.folder import checkpoint_path
from hf_warmup.training import (
    Batch,
    EvaluationRecord,
    Objective,
    StepRecord,
    TrainConfig,
    TrainRecord,
    train,
)
from hf_warmup.training.accelerator import make_accelerator
from hf_warmup.training.averaging import WeightAverage
from hf_warmup.training.precision import Precision, float32_arithmetic
from hf_warmup.training.records import as_line


logger = logging.getLogger(__name__)

# Told on every process of a run's model: the run's name, the folder of the model on the main one, and when.
OnModel = Callable[[str, Path, str], None]

# Updates that a device which computes by itself is left alone for.
READ_EVERY = 25
# Updates between two weights that are averaged, as in CTBench.
SWA_EVERY = 10


def make_objective(
    training: CertifiedTrainingConfig,
    arm: CertifiedArmConfig,
    *,
    eps: str,
    reg_weight: float,
    epoch_length: int,
    device: torch.device,
) -> CertifiedObjective:
    """The arm's objective on a device, at radius `eps` behind a ramp; an epoch has `epoch_length` updates."""
    ramp = partial(
        smoothed_ramp,
        start=round(training.ramp_start * epoch_length),
        length=round(training.ramp_epochs * epoch_length),
    )
    return CertifiedObjective(
        eps_max=parse_eps(eps),
        ramp=ramp,
        reg_weight=reg_weight,
        tightness=arm.tightness,
        relu_balance=arm.relu_balance,
        robust_weight=partial(_constantly, value=training.robust_weight),
        l1_weight=training.l1_weight,
        method=make_method(training, arm),
        compile_mode=compile_mode(training, device),
    )


def compile_mode(training: CertifiedTrainingConfig, device: torch.device) -> str | None:
    """How steps are compiled: as CUDA graphs where that is possible, and on other devices only if it is asked for."""
    on_gpu = device.type == "cuda"
    if not (on_gpu if training.compile is None else training.compile):
        return None
    # Gradients that are added up would have to outlive the graph that has made them.
    return "reduce-overhead" if on_gpu and training.gradient_accumulation_steps == 1 else "default"


def in_precision(objective: Objective, precision: Precision) -> Objective:
    """The objective, with matrix products and convolutions in bfloat16 for "bf16"."""

    def loss_of(model: nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Mapping[str, Any]]:
        with torch.autocast(batch["pixel_values"].device.type, torch.bfloat16, enabled=precision == "bf16"):
            return objective(model, batch, step)

    return loss_of


def _with_tf32(records: Iterator[TrainRecord], tf32: bool) -> Iterator[TrainRecord]:
    """The same records, made with TF32 allowed or not; whoever takes them sees the setting that was there before."""
    while True:
        with float32_arithmetic(tf32=tf32):
            record = next(records, None)
        if record is None:
            return
        yield record


def _constantly(step: int, *, value: float) -> float:
    return value


def run_certified_cell(
    study: CertifiedStudyConfig,
    data: ImageData,
    cell: CertifiedCell,
    *,
    folder: Path,
    on_model: OnModel | None = None,
) -> Iterator[Record]:
    """Train, evaluate and save one cell; its last epoch's weights go to `folder/models/CELL`.

    Args:
        study, data, cell: what to run.
        folder: the study's.
        on_model: told of the model where a checkpoint is due, and at the end.

    Yields:
        Records with a `kind`: "step", "evaluation" (clean and verified accuracy at the full radius, on the validation
        split where there is one and on the test split elsewhere; bound health), perhaps "diverged", and as the last
        "result": clean, verified and attacked accuracy on the test split.

    Raises:
        RuntimeError: if the attack breaks a verified image, which would mean a wrong bound.
    """
    training = study.training
    accelerator = make_accelerator(gradient_accumulation_steps=training.gradient_accumulation_steps)
    data = data.to(accelerator.device)
    if training.precision == "tf32" and accelerator.device.type != "cuda":
        logger.warning("training.precision: there is no TF32 on this device; steps are computed in float32")
    set_seed(stream_seed(cell.seed, "initialization"))
    model = make_model(study.model, data, cell.arm)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, fused=True)
    scheduler = WarmupScheduler(optimizer, warmups=[constant], decays=[make_decay(training, cell.epoch_length)])
    objective = make_objective(
        training,
        cell.arm,
        eps=study.train_eps or study.eps,
        reg_weight=study.reg_weight,
        epoch_length=cell.epoch_length,
        device=accelerator.device,
    )
    loader = _make_loader(training, data, cell.seed)
    config = _train_config(training, cell, folder, accelerator.device)
    average = _average(training, cell, accelerator, model, optimizer)
    evaluate = Evaluation(study, data, model, objective, average)

    def hand_over(place: Path, when: str) -> None:
        if accelerator.is_main_process:
            save_model(evaluate.judged, place)
        if on_model is not None:
            on_model(cell.name, place, when)

    parts = (accelerator, model, optimizer, scheduler, loader, in_precision(objective, training.precision), config)
    record: TrainRecord | None = None
    for record in _with_tf32(train(*parts, evaluate=evaluate), training.precision == "tf32"):
        yield _as_line(record, evaluate.health)
        if on_model is not None and isinstance(record, EvaluationRecord) and _is_checkpoint(record.step, config):
            hand_over(
                checkpoint_path(folder, cell.name) / "model",
                f"epoch {record.step // cell.epoch_length} of {training.epochs}",
            )
    found = evaluate.result(seen=isinstance(record, EvaluationRecord))
    yield {"kind": "result", "eps": study.eps, **found.accuracies(), **found.counts()}
    hand_over(folder / "models" / cell.name, "end of training")
    accelerator.free_memory()


def _average(
    training: CertifiedTrainingConfig,
    cell: CertifiedCell,
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> WeightAverage | None:
    """What averages the weights of a run, kept by its checkpoints; None where nothing does."""
    if training.swa_start is None:
        return None
    start = training.swa_start * cell.epoch_length
    average = WeightAverage(model, optimizer, start=start, every=training.swa_every or SWA_EVERY)
    accelerator.register_for_checkpointing(average)
    return average


def _make_loader(training: CertifiedTrainingConfig, data: ImageData, seed: int) -> DataLoader[Any]:
    changed = Augmentation(seed, flip=training.flip, padding=training.crop_padding)
    images = data.train.augmented(changed if training.flip or training.crop_padding else None)
    return shuffled_loader(images, batch_size=training.batch_size, seed=seed, collate=same)


def _as_line(record: TrainRecord, health: list[LayerHealth]) -> Record:
    line = as_line(record)
    if isinstance(record, StepRecord):
        line["metrics"] = record.metrics
    if isinstance(record, EvaluationRecord):
        line["health"] = [asdict(layer) for layer in health]
    return line


def _train_config(
    training: CertifiedTrainingConfig, cell: CertifiedCell, folder: Path, device: torch.device
) -> TrainConfig:
    length = cell.epoch_length
    return TrainConfig(
        num_training_steps=cell.num_updates,
        seed=cell.seed,
        max_grad_norm=training.max_grad_norm,
        evaluate_every=training.evaluate_every * length,
        checkpoint_every=training.checkpoint_every and training.checkpoint_every * length,
        checkpoint_dir=checkpoint_path(folder, cell.name) if training.checkpoint_every else None,
        update_statistics_every=0,
        read_every=READ_EVERY if device.type == "cuda" else 1,
    )


def _is_checkpoint(step: int, config: TrainConfig) -> bool:
    every = config.checkpoint_every
    return every is not None and step % every == 0 and step < config.num_training_steps


def make_decay(training: CertifiedTrainingConfig, epoch_length: int) -> Schedule:
    """The learning rate's decay; an epoch has `epoch_length` updates."""
    milestones = tuple(epoch * epoch_length for epoch in training.milestones)
    return partial(multistep_decay, milestones=milestones, factor=training.lr_factor)
