"""Cost of `scheduler.step()`: ours against transformers' linear schedule, side by side.

python recipes/benchmarks/scheduler_step.py
"""

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import get_scheduler

import hf_warmup


ROUNDS, STEPS = 15, 5000


def seconds_per_step(make: Callable[[torch.optim.Optimizer], Any]) -> float:
    """Time of one scheduler step on an optimizer with two param groups."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    scheduler = make(optimizer)
    optimizer.step()
    started = time.perf_counter()
    for _ in range(STEPS):
        scheduler.step()
    return (time.perf_counter() - started) / STEPS


def main() -> None:
    """Alternate both, and print the ratio of their medians."""
    logging.disable()
    makers: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
        "transformers linear": lambda o: get_scheduler("linear", o, 100, 10_000),
        "untuned_linear_warmup": lambda o: hf_warmup.get_schedule(o, 0, 10_000),
        "cosine_with_untuned_exponential_warmup": lambda o: hf_warmup.get_schedule(
            o, 0, 10_000, warmup="untuned_exponential_warmup", decay="cosine"
        ),
        "radam_warmup": lambda o: hf_warmup.get_schedule(o, 0, 10_000, warmup="radam_warmup"),
    }
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            times[name].append(seconds_per_step(make))
    base = statistics.median(times["transformers linear"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<40}{1e6 * median:6.2f} us a step, ratio {median / base:.2f}")


if __name__ == "__main__":
    main()
