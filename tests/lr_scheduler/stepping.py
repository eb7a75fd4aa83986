"""An AdamW on single numbers, and the rates that a scheduler gives it."""

import torch
from torch import nn

from hf_warmup import WarmupScheduler


def adamw(*betas: float, lr: float = 1.0) -> torch.optim.AdamW:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "betas": (0.9, beta2)} for beta2 in betas or (0.8,)]
    return torch.optim.AdamW(groups, lr=lr)


def trace(
    optimizer: torch.optim.Optimizer, scheduler: WarmupScheduler, updates: int, *, per_update: int = 1
) -> list[float]:
    values = []
    for _ in range(updates):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for _ in range(per_update):
            scheduler.step()
    return values
