"""Cost of a certified training step of CNN-7 (3x32x32, batch normalization, regularizers on), beside a plain step.

    python recipes/benchmarks/certified_step.py --batch-size 128 --rounds 7 --json step.json

All take turns in one process, in random order; what counts is the ratio of medians. Memory is the peak of a step over
what stays between steps, each in a process of its own (Linux only). bfloat16 rounds a radius down as often as up: it
is for training, and its bounds prove nothing.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hf_warmup.bounds import FAST_RULES, RULES, input_interval, margins, propagate
from hf_warmup.certified import CertifiedObjective, ibp_init_
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


EPS, WARM = 1e-3, 2
BOUNDED = 256  # images at once, as `certify` takes them
PLAIN, TABLE, FAST = "plain training step", "plain table", "fast"
# What a name says is what is done: "compiled", "no regularizers", "bf16".
VARIANTS = [PLAIN, TABLE, FAST, "fast, no regularizers", "fast, compiled", "fast, compiled, no regularizers"]
VARIANTS += ["fast, bf16 (no bounds)", "fast, compiled, bf16 (no bounds)"]
Step = Callable[[], Any]


def make_model_and_batch(batch_size: int) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """CNN-7 as it starts, and random images; channels last, as every variant has it."""
    torch.manual_seed(0)
    model = CertifiedForImageClassification(CertifiedConfig())
    ibp_init_(model, torch.zeros(1, 3, 32, 32))
    images = torch.rand(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = {"pixel_values": images, "labels": torch.randint(0, 10, (batch_size,))}
    return model.to(memory_format=torch.channels_last), batch


def make_step(variant: str, batch_size: int) -> Step:
    """One update of its own model: loss, backward, clipping to norm 10, fused Adam."""
    model, batch = make_model_and_batch(batch_size)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=5e-4, fused=True)
    weight = 0.0 if "no regularizers" in variant else 0.5
    objective = CertifiedObjective(
        2 * EPS,
        ramp=lambda step: 0.5,
        reg_weight=weight,
        rules=RULES if variant == TABLE else FAST_RULES,
        compile_mode="default" if "compiled" in variant else None,
    )

    def loss_of() -> torch.Tensor:
        if variant == PLAIN:
            return F.cross_entropy(model(batch["pixel_values"]).logits, batch["labels"])
        return objective(model, batch, 0)[0]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if "bf16" in variant else contextlib.nullcontext():
            loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_bounding(rules: Any) -> Step:
    """The pass of certification in the model's own precision: clean logits and lower bounds of the margins."""
    model, batch = make_model_and_batch(BOUNDED)
    model.eval()

    @torch.no_grad()
    def bound() -> None:
        margins(propagate(model, input_interval(batch["pixel_values"], EPS, rules=rules)), batch["labels"])

    return bound


def race(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, after some to warm up; a round is one of each, in random order."""
    for step in steps.values():
        for _ in range(WARM):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.sample(list(steps), len(steps)):
            started = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_mebibytes(step: Step) -> float:
    """How far the resident memory rises in a step above what it is between steps."""
    for _ in range(WARM):
        step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def measured_memory(variant: str, batch_size: int) -> float | None:
    """`peak_mebibytes` of a variant in a fresh process; None where the system does not tell."""
    command = [sys.executable, __file__, "--memory-of", variant, "--batch-size", str(batch_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def main() -> None:
    """Measure, print a table, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(peak_mebibytes(make_step(options.memory_of, options.batch_size)))
        return
    memory = {name: measured_memory(name, options.batch_size) for name in VARIANTS}
    seconds = race({name: make_step(name, options.batch_size) for name in VARIANTS}, options.rounds)
    tables = {TABLE: RULES, FAST: FAST_RULES}
    bounding = race({name: make_bounding(rules) for name, rules in tables.items()}, options.rounds)
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"CNN-7, 3x32x32, batch of {options.batch_size}, {options.rounds} rounds, {where}, {time.strftime('%F')}\n")
    print("| step | median, ms | of a plain step | of the plain table | peak memory, MiB |\n|---|---|---|---|---|")
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    for name, median in medians.items():
        ratios = f"{median / medians[PLAIN]:.2f} | {median / medians[TABLE]:.2f}"
        print(f"| {name} | {1e3 * median:.0f} | {ratios} | {'?' if memory[name] is None else round(memory[name])} |")
    print("\n| clean logits and bounds | images/s |\n|---|---|")
    for name, found in bounding.items():
        print(f"| {name} | {BOUNDED / statistics.median(found):.0f} |")
    if options.json:
        record = {"where": where, "batch_size": options.batch_size, "seconds": seconds, "memory_mib": memory}
        options.json.write_text(json.dumps({**record, "bounding_seconds": bounding}, indent=2))


if __name__ == "__main__":
    main()
