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


def seconds_per_step(make: Callable[[torch.optim.Optimizer], Any]) -> tuple[float, float]:
    """Time of `scheduler.step()`, and of the whole loop around it, in which our scheduler's update hook runs too.

    The optimizer has two param groups and no gradients, so that its own work does not drown the scheduler's.
    """
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    scheduler = make(optimizer)
    inside = 0.0
    started = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
        before = time.perf_counter()
        scheduler.step()
        inside += time.perf_counter() - before
    return inside / STEPS, (time.perf_counter() - started) / STEPS


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
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            times[name].append(seconds_per_step(make))
    medians = {name: [statistics.median(part) for part in zip(*times[name], strict=True)] for name in makers}
    base_step, base_loop = medians["transformers linear"]
    for name, (step, loop) in medians.items():
        print(
            f"{name:<40}step() {1e6 * step:5.2f} us, ratio {step / base_step:.2f};  "
            f"with optimizer.step() and its hook {1e6 * loop:5.1f} us, ratio {loop / base_loop:.2f}"
        )


if __name__ == "__main__":
    main()
