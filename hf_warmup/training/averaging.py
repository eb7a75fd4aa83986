"""Stochastic weight averaging: a model of the plain average of the weights along the end of a run."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """The average of a model's weights after every `every`-th update behind the first `start`.

    Running statistics of batch normalization are no averages: whoever uses the averaged model computes them anew, see
    `hf_warmup.certified.precise_batch_norm_`. Accelerate stores it, if it is registered for checkpointing.

    Args:
        model: the plain one, not the prepared.
        optimizer: whose updates are counted, plain or prepared.
        start: updates that are left out, >= 0.
        every: updates between two weights that are taken, >= 1.

    Source: Izmailov et al., arXiv 1803.05407, algorithm 1.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, start: int, every: int) -> None:
        if start < 0 or every < 1:
            raise ValueError(f"start must be at least 0 and every at least 1, got {start} and {every}.")
        self._model, self._start, self._every = model, start, every
        self._updates = 0
        self._averaged: AveragedModel | None = None
        optimizer.register_step_post_hook(self._take)

    @property
    def model(self) -> nn.Module | None:
        """The averaged model, whose statistics are those of some update; None before the first weights are taken."""
        return None if self._averaged is None else self._averaged.module

    def _take(self, *_: Any) -> None:
        self._updates += 1
        behind = self._updates - self._start
        if behind > 0 and behind % self._every == 0:
            # Copied as late as this: before, the model may have moved to another device.
            self._averaged = self._averaged or AveragedModel(self._model)
            self._averaged.update_parameters(self._model)

    def state_dict(self) -> dict[str, Any]:
        """As Accelerate stores it."""
        return {"updates": self._updates, "averaged": self._averaged and self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As it was stored."""
        self._updates = int(state["updates"])
        self._averaged = None if state["averaged"] is None else AveragedModel(self._model)
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])
