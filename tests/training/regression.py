"""The smallest run of the loop: a line with dropout, 22 examples, and an optimizer whose rate follows a schedule."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.training import TrainConfig


STEPS = 20


class Regression(nn.Module):
    """A line with dropout, so that a lost random state shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).squeeze(-1)


def dataset(size: int = 22) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 4, generator=generator)
    return TensorDataset(x, x.sum(1))


def squared_error(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    x, y = batch
    return (model(x) - y).square().mean(), {"step_seen": float(step)}


def run(
    config: TrainConfig,
    *,
    accumulation: int = 1,
    model: nn.Module | None = None,
    objective: Any = squared_error,
    **kwargs: Any,
) -> tuple[nn.Module, Iterator[Any]]:
    model = model or Regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.8), weight_decay=0.1)
    scheduler = get_schedule(optimizer, 0, STEPS)
    accelerator = make_accelerator(gradient_accumulation_steps=accumulation)
    loader = shuffled_loader(dataset(), batch_size=4, seed=3)
    return model, train(accelerator, model, optimizer, scheduler, loader, objective, config, **kwargs)
