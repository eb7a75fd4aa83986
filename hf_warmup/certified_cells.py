"""One run of certified training: a method and a seed, from initialization to the certified test score."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.assessment import EVALUATION_BATCH, assess
from hf_warmup.cells import as_line
from hf_warmup.certified import (
    CertifiedObjective,
    LayerHealth,
    bound_health,
    ibp_init_,
    parse_eps,
    precise_batch_norm_,
    warn_of_explosion,
)
from hf_warmup.certified.objective import LEAST_EPS
from hf_warmup.certified_config import CertifiedArmConfig, CertifiedStudyConfig
from hf_warmup.checkpoints import make_accelerator
from hf_warmup.errors import ConfigError
from hf_warmup.image_data import ImageData, same
from hf_warmup.loaders import shuffled_loader
from hf_warmup.lr_scheduler import WarmupScheduler
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor
from hf_warmup.records import Record
from hf_warmup.schedules import Schedule, constant, multistep_decay, smoothed_ramp
from hf_warmup.study_folder import checkpoint_path
from hf_warmup.training import DivergedRecord, EvaluationRecord, StepRecord, TrainConfig, train


# Told on every process of a run's model: the run's name, the folder of the model on the main one, and when.
OnModel = Callable[[str, Path, str], None]

# Images whose bounds tell how the layers fare.
HEALTH_EXAMPLES = 256


@dataclass(frozen=True)
class CertifiedCell:
    """One run of a study."""

    arm: CertifiedArmConfig
    seed: int

    @property
    def name(self) -> str:
        """File name of its records, without suffix."""
        return f"{self.arm.name}--{self.seed}"


def make_model(
    study: CertifiedStudyConfig, data: ImageData, arm: CertifiedArmConfig
) -> CertifiedForImageClassification:
    """The arm's model, freshly initialized from torch's global generator.

    Raises:
        ConfigError: for keys or values that `CertifiedConfig` does not take.
    """
    channels, size = data.shape
    try:
        config = CertifiedConfig(
            **{"num_channels": channels, "image_size": size, "num_labels": data.num_labels, **study.model},
            batch_norm=arm.batch_norm,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {error}") from None
    model = CertifiedForImageClassification(config)
    if arm.ibp_init:
        ibp_init_(model, torch.zeros(1, channels, size, size))
    return model


def epoch_length(study: CertifiedStudyConfig, data: ImageData, num_processes: int) -> int:
    """Optimizer updates of one epoch; incomplete batches are dropped."""
    per_update = study.training.batch_size * study.training.gradient_accumulation_steps * num_processes
    if len(data.train) < per_update:
        raise ConfigError(f"an update takes {per_update} examples, but there are {len(data.train)} to train on.")
    return len(data.train) // per_update


def make_objective(study: CertifiedStudyConfig, arm: CertifiedArmConfig, length: int) -> CertifiedObjective:
    """The arm's objective, with a ramp for epochs of `length` updates."""
    training = study.training
    ramp = partial(
        smoothed_ramp, start=round(training.ramp_start * length), length=round(training.ramp_epochs * length)
    )
    augmented = training.flip or training.crop_padding
    return CertifiedObjective(
        eps_max=parse_eps(study.train_eps or study.eps),
        ramp=ramp,
        reg_weight=study.reg_weight,
        tightness=arm.tightness,
        relu_balance=arm.relu_balance,
        robust_weight=partial(_constantly, value=training.robust_weight),
        l1_weight=training.l1_weight,
        transform=partial(augment, flip=training.flip, padding=training.crop_padding) if augmented else None,
        compile=training.compile,
    )


def _constantly(step: int, *, value: float) -> float:
    return value


def augment(images: Tensor, *, flip: bool, padding: int) -> Tensor:
    """Flip half of the images, then crop each at random out of itself padded by repeating its edge pixels."""
    count, _, height, width = images.shape
    if flip:
        flipped = torch.rand(count, device=images.device) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    if padding:
        padded = F.pad(images, [padding] * 4, mode="replicate")
        rows, columns = torch.randint(0, 2 * padding + 1, (2, count, 1), device=images.device)
        rows = (rows + torch.arange(height, device=images.device)).view(count, 1, height, 1)
        columns = (columns + torch.arange(width, device=images.device)).view(count, 1, 1, width)
        images = padded[torch.arange(count, device=images.device).view(-1, 1, 1, 1), _channels(images), rows, columns]
    return images


def _channels(images: Tensor) -> Tensor:
    return torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)


class _Evaluation:
    """Accuracies on the test split at the full radius; `health` is that of the last call."""

    def __init__(
        self, study: CertifiedStudyConfig, data: ImageData, model: nn.Module, objective: CertifiedObjective
    ) -> None:
        self._study, self._data, self._model, self._objective = study, data, model, objective
        self.health: list[LayerHealth] = []

    def __call__(self, _: nn.Module, step: int) -> dict[str, float]:
        # Not the prepared model: bounds go through the plain one, whose weights are the same.
        device = next(self._model.parameters()).device
        # Each process has moved its running statistics by its own batches; those of the first are reported and saved.
        for buffer in self._model.buffers():
            broadcast(buffer)
        if self._study.training.precise_batch_norm:
            chunks = torch.split(torch.arange(len(self._data.train)), EVALUATION_BATCH)
            batches = (self._data.train.__getitems__(chunk)["pixel_values"].to(device) for chunk in chunks)
            precise_batch_norm_(self._model, batches)
        eps = max(self._objective.eps_max * self._objective.ramp(step), LEAST_EPS)
        some = self._data.train.__getitems__(range(min(HEALTH_EXAMPLES, len(self._data.train))))["pixel_values"]
        self.health = bound_health(self._model, some.to(device), eps)
        warn_of_explosion(self.health)
        attack = self._study.pgd if self._study.pgd.every_epoch else None
        return assess(self._model, self._data.test, self._study.eps, attack=attack).accuracies()


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
        Records with a `kind`: "step", "evaluation" (clean and verified accuracy on the test split at the full radius,
        bound health), perhaps "diverged", and as the last "result", which adds the attack.

    Raises:
        RuntimeError: if the attack breaks a verified image, which would mean a wrong bound.
    """
    training = study.training
    accelerator = make_accelerator(gradient_accumulation_steps=training.gradient_accumulation_steps)
    length = epoch_length(study, data, accelerator.num_processes)
    set_seed(cell.seed)
    model = make_model(study, data, cell.arm)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, fused=True)
    scheduler = WarmupScheduler(optimizer, warmups=[constant], decays=[make_decay(study, length)])
    objective = make_objective(study, cell.arm, length)
    loader = shuffled_loader(data.train, batch_size=training.batch_size, seed=cell.seed, collate=same)
    config = TrainConfig(
        num_training_steps=training.epochs * length,
        seed=cell.seed,
        max_grad_norm=training.max_grad_norm,
        evaluate_every=training.evaluate_every * length,
        checkpoint_every=training.checkpoint_every and training.checkpoint_every * length,
        checkpoint_dir=checkpoint_path(folder, cell.name) if training.checkpoint_every else None,
        update_statistics_every=0,
    )
    evaluate = _Evaluation(study, data, model, objective)
    diverged = False
    for record in train(accelerator, model, optimizer, scheduler, loader, objective, config, evaluate=evaluate):
        diverged |= isinstance(record, DivergedRecord)
        line = as_line(record)
        if isinstance(record, StepRecord):
            line["metrics"] = record.metrics
        if isinstance(record, EvaluationRecord):
            line["health"] = [asdict(layer) for layer in evaluate.health]
        yield line
        if on_model is not None and isinstance(record, EvaluationRecord) and _is_checkpoint(record.step, config):
            unfinished = checkpoint_path(folder, cell.name) / "model"
            if accelerator.is_main_process:
                save_model(model, unfinished)
            on_model(cell.name, unfinished, f"epoch {record.step // length} of {training.epochs}")
    found = assess(model.eval(), data.test, study.eps, attack=study.pgd)
    yield {"kind": "result", "diverged": diverged, "eps": study.eps, **found.accuracies(), **found.counts()}
    finished = folder / "models" / cell.name
    if accelerator.is_main_process:
        save_model(model, finished)
    if on_model is not None:
        on_model(cell.name, finished, "end of training")
    accelerator.free_memory()


def _is_checkpoint(step: int, config: TrainConfig) -> bool:
    every = config.checkpoint_every
    return every is not None and step % every == 0 and step < config.num_training_steps


def make_decay(study: CertifiedStudyConfig, length: int) -> Schedule:
    """The learning rate's decay, for epochs of `length` updates."""
    milestones = tuple(epoch * length for epoch in study.training.milestones)
    return partial(multistep_decay, milestones=milestones, factor=study.training.lr_factor)


def save_model(model: CertifiedForImageClassification, folder: Path) -> None:
    """Weights as safetensors, config and image processor, as a Hub repository holds them."""
    model.save_pretrained(folder)
    config = model.config
    CertifiedImageProcessor(config.image_size, config.num_channels).save_pretrained(folder)
