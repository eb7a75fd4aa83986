"""Cost of an update: AdamW under radam_warmup against torch.optim.RAdam, on 22.6 million parameters, side by side.

    python recipes/benchmarks/radam_against_adamw.py

RAdam has no fused kernel; AdamW has one. With equal kernels (foreach) the difference is RAdam's own arithmetic.
"""

import statistics
import time

import torch

import hf_warmup


ROUNDS, STEPS, WARM = 7, 4, 8
# A MiniLM of six layers: 384 wide, 1,536 in between, 30,522 words.
SHAPES = [(30_522, 384), (512, 384)] + 6 * [(384, 384)] * 4 + 6 * [(1536, 384), (384, 1536)] + 50 * [(384,)]


def seconds_per_update(optimizer_class: type[torch.optim.Optimizer], *, warmup: bool, **options: bool) -> float:
    """Time of one update and scheduler step, after RAdam's rectification has begun."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer = optimizer_class(parameters, lr=1e-4, betas=(0.9, 0.98), **options)  # type: ignore[call-arg]
    name = "radam_warmup" if warmup else "linear_warmup"
    scheduler = hf_warmup.get_schedule(optimizer, 0 if warmup else 1, 10_000, warmup=name)
    for _ in range(WARM):
        optimizer.step()
        scheduler.step()
    started = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - started) / STEPS


def main() -> None:
    """Interleave the three, and print ratios of medians."""
    times: dict[str, list[float]] = {"RAdam, foreach": [], "AdamW + radam_warmup, foreach": [], "the same, fused": []}
    for _ in range(ROUNDS):
        times["RAdam, foreach"].append(seconds_per_update(torch.optim.RAdam, warmup=False, foreach=True))
        times["AdamW + radam_warmup, foreach"].append(seconds_per_update(torch.optim.AdamW, warmup=True, foreach=True))
        times["the same, fused"].append(seconds_per_update(torch.optim.AdamW, warmup=True, fused=True))
    radam = statistics.median(times["RAdam, foreach"])
    total = sum(torch.Size(shape).numel() for shape in SHAPES)
    print(f"{total / 1e6:.1f} million parameters, {ROUNDS} rounds, {torch.get_num_threads()} threads")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<32}{1e3 * median:7.1f} ms an update; RAdam takes {radam / median:.2f} times as long")


if __name__ == "__main__":
    main()
