"""One run of certified training: a method and a seed, from initialization to the certified test score."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.cells import as_line
from hf_warmup.certified import (
    CertifiedObjective,
    Verifier,
    bound_health,
    ibp_init_,
    parse_eps,
    pgd,
    precise_batch_norm_,
    warn_of_explosion,
)
from hf_warmup.certified_config import CertifiedArmConfig, CertifiedStudyConfig, PgdConfig
from hf_warmup.checkpoints import make_accelerator
from hf_warmup.errors import ConfigError
from hf_warmup.image_data import ImageData, Images, same
from hf_warmup.loaders import shuffled_loader
from hf_warmup.lr_scheduler import WarmupScheduler
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor
from hf_warmup.records import Record
from hf_warmup.schedules import constant, multistep_decay, smoothed_ramp
from hf_warmup.training import EvaluationRecord, StepRecord, TrainConfig, train


EVALUATION_BATCH = 512


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


def run_certified_cell(
    study: CertifiedStudyConfig, data: ImageData, cell: CertifiedCell, *, folder: Path
) -> Iterator[Record]:
    """Train, evaluate and save one cell; its last epoch's weights go to `folder/models/CELL`.

    Yields:
        Records with a `kind`: "step", "evaluation" (clean and verified accuracy on the test split at the full radius,
        bound health) and as the last "result", which adds the attack.

    Raises:
        RuntimeError: if the attack breaks a verified image, which would mean a wrong bound.
    """
    training = study.training
    accelerator = make_accelerator(gradient_accumulation_steps=training.gradient_accumulation_steps)
    length = epoch_length(study, data, accelerator.num_processes)
    set_seed(cell.seed)
    model = make_model(study, data, cell.arm)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    milestones = [epoch * length for epoch in training.milestones]
    decay = partial(multistep_decay, milestones=tuple(milestones), factor=training.lr_factor)
    scheduler = WarmupScheduler(optimizer, warmups=[constant], decays=[decay])
    objective = make_objective(study, cell.arm, length)
    loader = shuffled_loader(data.train, batch_size=training.batch_size, seed=cell.seed, collate=same)
    config = TrainConfig(
        num_training_steps=training.epochs * length,
        seed=cell.seed,
        max_grad_norm=training.max_grad_norm,
        evaluate_every=training.evaluate_every * length,
        checkpoint_every=training.checkpoint_every and training.checkpoint_every * length,
        checkpoint_dir=checkpoint_folder(study, cell, folder),
        update_statistics_every=0,
    )
    health: list[Any] = []

    def evaluate(wrapped: nn.Module, step: int) -> dict[str, float]:
        plain = accelerator.unwrap_model(wrapped)
        if training.precise_batch_norm:
            chunks = torch.split(torch.arange(len(data.train)), EVALUATION_BATCH)
            precise_batch_norm_(plain, (data.train.__getitems__(c)["pixel_values"].to(model.device) for c in chunks))
        current = max(objective.eps_max * objective.ramp(step), 1e-6)
        some = data.train.__getitems__(range(min(256, len(data.train))))["pixel_values"]
        health[:] = bound_health(plain, some.to(plain.device), current)
        warn_of_explosion(health)
        scores, _ = clean_and_verified(plain, data.test, study.eps)
        return scores

    for record in train(accelerator, model, optimizer, scheduler, loader, objective, config, evaluate=evaluate):
        line = as_line(record)
        if isinstance(record, StepRecord):
            line["metrics"] = record.metrics
        if isinstance(record, EvaluationRecord):
            line["health"] = [asdict(layer) for layer in health]
        yield line
    plain = accelerator.unwrap_model(accelerator._models[-1]).eval()
    yield {"kind": "result", **final_scores(plain, data.test, study.eps, study.pgd)}
    if accelerator.is_main_process:
        save_model(plain, folder / "models" / cell.name)
    accelerator.free_memory()


def checkpoint_folder(study: CertifiedStudyConfig, cell: CertifiedCell, folder: Path) -> Path | None:
    """Where a cell's checkpoints go, None if the study makes none."""
    return folder / "checkpoints" / cell.name if study.training.checkpoint_every else None


def save_model(model: CertifiedForImageClassification, folder: Path) -> None:
    """Weights as safetensors, config and image processor, as a Hub repository holds them."""
    model.save_pretrained(folder)
    config = model.config
    CertifiedImageProcessor(config.image_size, config.num_channels).save_pretrained(folder)


@torch.no_grad()
def clean_and_verified(model: nn.Module, images: Images, eps: str) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Clean and verified accuracy on a split, and both per image, (N,)."""
    verifier, device = Verifier(model), next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {"clean": [], "verified": [], "margin": []}
    for chosen in torch.split(torch.arange(len(images)), EVALUATION_BATCH):
        batch = {name: part.to(device) for name, part in images.__getitems__(chosen).items()}
        output = model(batch["pixel_values"])
        certificate = verifier.certify(batch["pixel_values"], batch["labels"], eps=eps)
        parts["clean"].append((getattr(output, "logits", output).argmax(1) == batch["labels"]).cpu())
        parts["verified"].append(certificate.verified.cpu())
        parts["margin"].append(certificate.margin.cpu())
    each = {name: torch.cat(part) for name, part in parts.items()}
    scores = {f"{name}_accuracy": float(each[name].double().mean()) for name in ("clean", "verified")}
    return scores, each


def final_scores(model: nn.Module, images: Images, eps: str, attack: PgdConfig) -> Record:
    """Clean, PGD and verified accuracy with their counts; PGD on the first images if the attack is limited.

    Raises:
        RuntimeError: if a verified image is broken.
    """
    scores, each = clean_and_verified(model, images, eps)
    attacked = images.first(attack.examples)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    broken = []
    for chosen in torch.split(torch.arange(len(attacked)), EVALUATION_BATCH):
        batch = {name: part.to(device) for name, part in attacked.__getitems__(chosen).items()}
        result = pgd(
            model,
            batch["pixel_values"],
            batch["labels"],
            parse_eps(eps),
            steps=attack.steps,
            restarts=attack.restarts,
            generator=generator,
        )
        broken.append(result.broken.cpu())
    each_broken = torch.cat(broken)
    wrong = (each_broken & each["verified"][: len(each_broken)]).nonzero().flatten().tolist()
    if wrong:
        raise RuntimeError(
            f"verified test images {wrong[:5]} were broken by PGD: a bound is wrong. Please report this."
        )
    return {
        **scores,
        "pgd_accuracy": float((~each_broken).double().mean()),
        "num_verified": int(each["verified"].sum()),
        "num_examples": len(images),
        "num_attacked": len(attacked),
        "eps": eps,
    }
