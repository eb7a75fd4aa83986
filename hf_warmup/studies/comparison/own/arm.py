"""What a person's own training function gets of an arm: its optimizer and its schedule, each in one line.

Deliberately absent: how they are made, which is the same for every study (`comparison.arms`).
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from hf_warmup.studies.comparison.arms import make_optimizer, make_scheduler
from hf_warmup.studies.comparison.config import ArmConfig, shared_settings


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison.

    Attributes:
        config: the arm as the study has it.
    """

    config: ArmConfig

    @property
    def name(self) -> str:
        """Its name in the report."""
        return self.config.name

    def make_optimizer(
        self,
        model: nn.Module,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1.0e-8,
        weight_decay: float = 0.01,
    ) -> torch.optim.Optimizer:
        """The arm's optimizer over a model's trainable parameters; biases and normalization weights do not decay.

        Args:
            model: whose parameters are trained.
            learning_rate: the base rate, before the schedule.
            betas, eps, weight_decay: as in torch's AdamW; give all arms the same.
        """
        shared = shared_settings(beta1=betas[0], beta2=betas[1], adam_epsilon=eps, weight_decay=weight_decay)
        return make_optimizer(model, shared, self.config, learning_rate)

    def make_scheduler(
        self,
        optimizer: torch.optim.Optimizer,
        num_training_steps: int,
        *,
        decay: str = "linear",
        on_short_run: str = "raise",
    ) -> LRScheduler:
        """The arm's warmup times the decay that all arms share; call its `step()` after each update.

        Args:
            optimizer: from `make_optimizer`.
            num_training_steps: length of the run in updates.
            decay: one of constant, linear, cosine, polynomial, wsd.
            on_short_run: "raise" or "warn" where the run ends before an untuned warmup does.

        Raises:
            ValueError: for a run that is shorter than the warmup, under "raise".
        """
        return make_scheduler(
            optimizer, shared_settings(decay=decay, on_short_run=on_short_run), self.config, num_training_steps
        )
