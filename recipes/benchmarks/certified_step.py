"""Cost of a certified training step of CNN-7 (3x32x32, batch normalization, regularizers on), beside a plain step.

    python recipes/benchmarks/certified_step.py --batch-size 128 --rounds 7 --json step.json

All take turns in one process, in random order; what counts is the ratio of medians. Memory is the peak of a step over
what stays between steps, each in a process of its own. bfloat16 and TF32 round a radius down as often as up: they are
for training, and their bounds prove nothing. Where auto_LiRPA is installed (see peers.py) its step takes part, and its
loss and gradient are compared with ours first.
"""

import argparse
import contextlib
import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measuring
import peers
import torch
from measuring import Step
from torch import nn
from torch.nn import functional as F

from hf_warmup.bounds import FAST_RULES, RULES, input_interval, margins, propagate
from hf_warmup.certified import CertifiedObjective, ibp_init_
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.training.precision import float32_arithmetic


EPS, REG_WEIGHT = 1e-3, 0.25
AGREEMENT = 1e-9  # relative, in float64
BOUNDED = 256  # images at once, as `certify` takes them
PLAIN, TABLE, FAST, PEER = "plain training step", "plain table", "fast", "auto_LiRPA"
# What a name says is what is done: "compiled", "no regularizers", "bf16", "TF32".
VARIANTS = [PLAIN, TABLE, FAST, "fast, no regularizers", "fast, compiled", "fast, compiled, no regularizers"]
VARIANTS += ["fast, bf16 (no bounds)", "fast, compiled, bf16 (no bounds)"]
ON_GPU = ["plain training step, TF32", "fast, TF32 (no bounds)", "fast, compiled, TF32 (no bounds)"]


def variants(device: torch.device) -> list[str]:
    """What can be measured here."""
    peer = [PEER] if device.type == "cpu" and peers.is_installed() else []
    return VARIANTS + (ON_GPU if device.type == "cuda" else peer)


def make_model_and_batch(batch_size: int, device: torch.device) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """CNN-7 as it starts, and random images; channels last, as all but auto_LiRPA have it."""
    torch.manual_seed(0)
    model = CertifiedForImageClassification(CertifiedConfig())
    ibp_init_(model, torch.zeros(1, 3, 32, 32))
    images = torch.rand(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = {"pixel_values": images.to(device), "labels": torch.randint(0, 10, (batch_size,)).to(device)}
    return model.to(device, memory_format=torch.channels_last), batch


def make_step(variant: str, batch_size: int, device: torch.device, *, share: float = 0.5) -> Step:
    """One update of its own model, at a share of the radius: loss, backward, clipping to norm 10, fused Adam."""
    model, batch = make_model_and_batch(batch_size, device)
    if variant == PEER:
        model = model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=5e-4, fused=True)
    compiled = "reduce-overhead" if device.type == "cuda" else "default"
    objective = CertifiedObjective(
        2 * EPS,
        ramp=lambda step: share,
        reg_weight=0.0 if "no regularizers" in variant else 2 * REG_WEIGHT,
        rules=RULES if variant == TABLE else FAST_RULES,
        compile_mode=compiled if "compiled" in variant else None,
    )
    of_peer = peers.lirpa_loss(model, batch, EPS, REG_WEIGHT) if variant == PEER else None

    def loss_of() -> torch.Tensor:
        if of_peer is not None:
            return of_peer()
        if variant.startswith(PLAIN):
            return F.cross_entropy(model(batch["pixel_values"]).logits, batch["labels"])
        return objective(model, batch, 0)[0]

    def step() -> None:
        bf16 = torch.autocast(device.type, torch.bfloat16) if "bf16" in variant else contextlib.nullcontext()
        with float32_arithmetic(tf32="TF32" in variant):
            with bf16:
                loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad()

    return step


def make_bounding(rules: Any, device: torch.device) -> Step:
    """The pass of certification in the model's own precision: clean logits and lower bounds of the margins."""
    model, batch = make_model_and_batch(BOUNDED, device)
    model.eval()

    @torch.no_grad()
    @float32_arithmetic()
    def bound() -> None:
        logits = propagate(model, input_interval(batch["pixel_values"], EPS, rules=rules))
        _ = logits.clean, margins(logits, batch["labels"])

    return bound


def disagreement(batch_size: int = 4) -> dict[str, float]:
    """Relative difference between auto_LiRPA and this package in float64: of the loss, and of the gradient in L2.

    Biases before a batch normalization are left out: their gradient is 0, and what is found of it is rounding.
    """
    model, batch = make_model_and_batch(batch_size, torch.device("cpu"))
    model, batch["pixel_values"] = model.double().train(), batch["pixel_values"].double()
    other = copy.deepcopy(model)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        losses = [
            CertifiedObjective(2 * EPS, ramp=lambda step: 0.5, reg_weight=2 * REG_WEIGHT)(model, batch, 0)[0],
            peers.lirpa_loss(other, batch, EPS, REG_WEIGHT)(),
        ]
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        torch.set_default_dtype(default)
    grads = [
        torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None and float(p.grad.norm()) > 1e-6])
        for each in (model, other)
    ]
    ours, theirs = (float(loss.detach()) for loss in losses)
    return {"loss": abs(ours - theirs) / ours, "gradient": float((grads[0] - grads[1]).norm() / grads[0].norm())}


def measured_memory(variant: str, options: argparse.Namespace) -> float | None:
    """`peak_mebibytes` of a variant in a fresh process; None where the system does not tell."""
    command = [sys.executable, __file__, "--memory-of", variant, "--batch-size", str(options.batch_size)]
    done = subprocess.run([*command, "--device", options.device], capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def on_gpu(steps: dict[str, Step], medians: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    """Launches and waits of each step, its operations, and the share of the peak that its median makes of them."""
    device = torch.device(options.device)
    found = {}
    for name, step in steps.items():
        flops = measuring.operations(steps[name.replace(", compiled", "")])  # what a graph does is not seen
        share = flops / medians[name] / (options.peak_tflops * 1e12) if options.peak_tflops else None
        counts = {"launches": measuring.launches(step, device), "waits": measuring.waits(step)}
        found[name] = {**counts, "flops": flops, "share_of_peak": share}
    return found


def report(record: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"CNN-7, 3x32x32, batch of {record['batch_size']}, {record['where']}, {record['date']}\n")
    print("| step | median, ms | of a plain step | of the plain table | peak memory, MiB |\n|---|---|---|---|---|")
    medians = {name: statistics.median(found) for name, found in record["seconds"].items()}
    for name, median in medians.items():
        ratios = f"{median / medians[PLAIN]:.2f} | {median / medians[TABLE]:.2f}"
        memory = record["memory_mib"][name]
        print(f"| {name} | {1e3 * median:.1f} | {ratios} | {'?' if memory is None else round(memory)} |")
    if PEER in medians:
        share = medians["fast, compiled"] / medians[PEER]
        print(f"\nfast, compiled / auto_LiRPA: {share:.2f}; relative differences in float64: {record['peer']}")
    for name, found in record.get("gpu", {}).items():
        print(f"{name}: {found}")
    print("\n| clean logits and bounds | images/s |\n|---|---|")
    for name, found in record["bounding_seconds"].items():
        print(f"| {name} | {BOUNDED / statistics.median(found):.0f} |")


def main() -> None:
    """Measure, print tables, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak-tflops", type=float, help="the GPU's, to state shares of it")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.memory_of:
        print(measuring.peak_mebibytes(make_step(options.memory_of, options.batch_size, device), device))
        return
    record: dict[str, Any] = {"batch_size": options.batch_size, "date": time.strftime("%F")}
    record |= {"where": measuring.machine(device), "rounds": options.rounds}
    names = variants(device)
    if PEER in names:
        record["peer"] = disagreement()
        if not max(record["peer"].values()) < AGREEMENT:  # NaN is no agreement
            raise SystemExit(f"auto_LiRPA's step is not the same as ours, so no race: {record['peer']}")
    # First, as `certify` has a process of its own: later the allocator holds what training steps have left.
    tables = {TABLE: RULES, FAST: FAST_RULES}
    bounding = {name: make_bounding(rules, device) for name, rules in tables.items()}
    record["bounding_seconds"] = measuring.race(bounding, options.rounds, device)
    record["memory_mib"] = {name: measured_memory(name, options) for name in names}
    steps = {name: make_step(name, options.batch_size, device) for name in names}
    record["seconds"] = measuring.race(steps, options.rounds, device)
    if device.type == "cuda":
        record["gpu"] = on_gpu(steps, {n: statistics.median(s) for n, s in record["seconds"].items()}, options)
    report(record)
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
