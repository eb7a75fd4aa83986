"""Certified training of a network of one's own in one call, for whoever has no recipe yet."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor, nn

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.bounds.margins import check_labels
from hf_warmup.bounds.radius import parse_eps
from hf_warmup.certified.initialization import ibp_init_
from hf_warmup.certified.objectives import CertifiedObjective
from hf_warmup.certified.requirements import called_with
from hf_warmup.data.loaders import shuffled_loader
from hf_warmup.lr_scheduler.scheduler import get_schedule
from hf_warmup.schedules import smoothed_ramp
from hf_warmup.training import TrainConfig, TrainRecord, train
from hf_warmup.training.accelerator import make_accelerator


def fit_certified(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    *,
    eps: float | str | Fraction,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 5.0e-3,
    seed: int = 0,
    from_scratch: bool = True,
    on_record: Callable[[TrainRecord], None] | None = None,
) -> nn.Module:
    """Train a classifier so that interval bounds prove its answers within `eps`.

    The recipe is that of Shi et al.: the radius grows over the second third of the run, with the two regularizers
    where the network has ReLUs, and the learning rate falls linearly behind an untuned warmup (beta2 is such that it
    takes a tenth of the run). Whoever wants to change more than this writes a recipe for `hf-warmup train`, or uses
    `CertifiedObjective` in a loop.

    Args:
        model: any module whose operations have rules, from (B, C, H, W) in [0, 1] to logits or an output that has
            them; it is trained in place. Dropout should be at 0.
        pixel_values: (N, C, H, W) in [0, 1].
        labels: (N,), integers in [0, K).
        eps: radius in pixel units, such as "8/255". Training for a somewhat larger one than is certified helps.
        epochs: passes over the images, at least 3.
        batch_size: images per update.
        learning_rate: Adam's, at its peak.
        seed: of the initialization and of the order of images.
        from_scratch: draw the weights anew, as interval bounds need them (`ibp_init_`); False keeps the model's.
        on_record: is told of each update.

    Returns:
        The model, in eval mode.

    Raises:
        ValueError: for too few epochs or images, labels that are none, pixels outside [0, 1], or a model that cannot
            be called with images alone.
        UnsupportedOperation: if the model uses an operation without a rule.

    Source: Shi et al., arXiv 2103.17268, section 4.
    """
    if epochs < 3:
        raise ValueError(f"epochs must be at least 3, so that the radius can grow, got {epochs}.")
    if pixel_values.min() < 0 or pixel_values.max() > 1:
        raise ValueError("pixel_values must lie in [0, 1]; let the model's first layer normalize them.")
    torch.manual_seed(seed)
    first = pixel_values[:1]
    with torch.no_grad(), called_with(model.eval(), first):
        # What has no rule should be known before anything is changed.
        check_labels(labels, len(pixel_values), propagate(model, input_interval(first, 0.01)).shape[-1])
    if from_scratch:
        try:
            ibp_init_(model, first)
        except ValueError as error:
            raise ValueError(f"{error} Keep the model's weights by from_scratch=False.") from None
    examples = [{"pixel_values": image, "labels": label} for image, label in zip(pixel_values, labels, strict=True)]
    loader = shuffled_loader(examples, batch_size=batch_size, seed=seed)  # type: ignore[arg-type]
    updates = epochs * len(loader)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, max(0.9, 1 - 20 / updates)))
    schedule = get_schedule(optimizer, num_training_steps=updates, warmup="untuned_linear_warmup", on_short_run="cap")
    objective = CertifiedObjective(
        eps_max=parse_eps(eps), ramp=partial(smoothed_ramp, start=len(loader), length=updates // 3)
    )
    config = TrainConfig(num_training_steps=updates, max_grad_norm=10.0, seed=seed)
    for record in train(make_accelerator(), model.train(), optimizer, schedule, loader, objective, config):
        if on_record is not None:
            on_record(record)
    return model.eval()
