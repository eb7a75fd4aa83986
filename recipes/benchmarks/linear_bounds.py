"""Cost of backward linear bounds on CIFAR-10's shapes beside auto_LiRPA's, in float32 and without rounding.

    python recipes/benchmarks/linear_bounds.py --rounds 5 --json linear_bounds.json

Three things take turns in one process: a CROWN-IBP training step of CNN-7 (bounds, loss and gradient, normalization by
the clean batch), CROWN-IBP margins of CNN-7, and CROWN margins of cnn_small, each of whose activations is bounded by
lines. What counts is the ratio of medians, of seconds on all cores, which other work on the machine changes least.
Margins are compared first, in float64. Memory is the peak over what stays between calls, each in a process of its own.
auto_LiRPA must be importable, see peers.py; a checkout of its repository by PYTHONPATH does as well.

With `--large`, CROWN margins of one image by CNN-7 alone, at a tenth of the radius, each call in a process of its own.

A fourth race is among ourselves: a training step by intervals alone, of CNN-7 and of a network so small that its time
is Python's, with and without the code that lets intervals remember what they came from.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring
import peers
import torch
from measuring import Step
from torch import Tensor, nn

from hf_warmup.bounds import FAST_RULES, RULES, Interval, input_interval, margins, propagate
from hf_warmup.bounds import interval as intervals
from hf_warmup.bounds.linear import LINEAR_RULES, linear_margins, refiner, with_steps
from hf_warmup.bounds.provenance import parts
from hf_warmup.certified.objectives import robust_cross_entropy
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.training.precision import float32_arithmetic


TASKS = ("CROWN-IBP step", "CROWN-IBP margins", "CROWN margins")
# Of CNN-7: a task of its own, as each call takes so long.
LARGE = "CROWN margins, large"
OURS, PEER = "ours", "auto_LiRPA"
SMALL = {"architecture": "mlp", "hidden_sizes": [8, 8]}


def task(name: str, batch_size: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images and labels."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {}
    if name == "CROWN margins":
        sizes = {"architecture": "cnn_small", "hidden_sizes": [8, 16], "strides": [2, 2], "dense_size": 64}
    model = CertifiedForImageClassification(CertifiedConfig(**sizes))
    # Statistics of a batch need two images.
    images, labels = torch.rand(max(2, batch_size), 3, 32, 32), torch.randint(0, 10, (batch_size,))
    # A pass that moves running statistics to where images are.
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(images)
    return model.train(name.endswith("step")), images[:batch_size], labels


def radius(name: str) -> float:
    """Of a task."""
    return 1e-4 if name == LARGE else 1e-3


def ours(name: str, model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """Margins, or with their loss the gradient."""

    def margins() -> Tensor:
        pixels = images.contiguous(memory_format=torch.channels_last)
        refine = refiner(LINEAR_RULES) if name.startswith("CROWN margins") else None
        rules = FAST_RULES if name.endswith("step") else None
        box = with_steps(input_interval(pixels, radius(name), rules=rules), refine=refine)
        return linear_margins(propagate(model, box), labels, rules=LINEAR_RULES)

    return _call(name, model, margins)


def theirs(name: str, model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """The same by auto_LiRPA."""
    margins = peers.lirpa_margins(model, images, labels, radius(name), name.partition(" ")[0])
    return _call(name, model, margins)


def _call(name: str, model: nn.Module, margins: Any) -> Step:
    def step() -> Tensor:
        if not name.endswith("step"):
            with torch.no_grad():
                return margins().detach()
        model.zero_grad()
        found = margins()
        robust_cross_entropy(found).backward()
        return found.detach()

    return step


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Intervals' operations without a thought of the steps that lead to them."""

    def apply_rule(func: Any, args: Any, kwargs: Any) -> Any:
        rules = RULES
        for part in parts((*args, *kwargs.values())):
            if isinstance(part, Interval):
                assert not part.became
                assert not part.spent
                if part.rules is not None and not part.rounding:
                    rules = part.rules
        return rules[func](*args, **kwargs)

    kept, intervals.apply_rule = intervals.apply_rule, apply_rule
    try:
        yield
    finally:
        intervals.apply_rule = kept


def by_intervals(sizes: dict[str, Any], batch_size: int) -> dict[str, Step]:
    """A training step by intervals alone, which remember nothing: as it is, and without the code for it."""
    torch.manual_seed(0)
    model = CertifiedForImageClassification(CertifiedConfig(**sizes)).train()
    images, labels = torch.rand(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,))

    def step() -> None:
        model.zero_grad()
        logits = propagate(model, input_interval(images, 1e-3, rules=FAST_RULES))
        robust_cross_entropy(margins(logits, labels)).backward()

    return {"as it is": step, "without memory": without_memory()(step)}


def disagreement(name: str) -> float:
    """The largest difference of margins in float64, relative to 1 and more."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model, images, labels = task(name, 2)
        found, expected = (make(name, model.double(), images, labels)() for make in (ours, theirs))
    finally:
        torch.set_default_dtype(before)
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())


def raced(steps: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Seconds on all cores of two steps, and the first one's share of the other's."""
    seconds = measuring.race(steps, rounds, torch.device("cpu"), time.process_time)
    one, other = seconds.values()
    ratio = statistics.median(one) / statistics.median(other)
    return {"seconds": seconds, "ratio_of_medians": ratio, "ratio_of_minima": min(one) / min(other)}


def called(who: str) -> dict[str, Any]:
    """One call of `LARGE`, which is too long for more: its seconds on all cores, memory and margins."""
    call = {OURS: ours, PEER: theirs}[who](LARGE, *task(LARGE, 1))
    found: list[Any] = []

    def step() -> None:
        start = time.process_time()
        found.extend([call()[0].tolist(), time.process_time() - start])

    with float32_arithmetic():
        memory = measuring.peak_mebibytes(step, torch.device("cpu"), warm=0)
    return {"seconds": found[1], "mebibytes": memory, "margins": found[0]}


def raced_large(rounds: int) -> dict[str, Any]:
    """`LARGE` by both, in turns."""
    calls: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    for turn in range(rounds):
        for who in (OURS, PEER) if turn % 2 == 0 else (PEER, OURS):
            command = [sys.executable, __file__, "--call", who]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            calls[who].append(json.loads(printed.splitlines()[-1]))
    seconds = {who: [call["seconds"] for call in each] for who, each in calls.items()}
    medians = [statistics.median(each) for each in seconds.values()]
    return {
        "batch_size": 1,
        "seconds": seconds,
        "ratio_of_medians": medians[0] / medians[1],
        "peak_mebibytes": {who: max(call["mebibytes"] for call in each) for who, each in calls.items()},
        "margins": {who: each[0]["margins"] for who, each in calls.items()},
    }


def main() -> None:
    """Race, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16, help="of CROWN-IBP; CROWN takes a quarter")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--large", action="store_true", help="CROWN margins of CNN-7 alone")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {name: max(1, options.batch_size // (4 if name == "CROWN margins" else 1)) for name in TASKS}
    device = torch.device("cpu")
    if options.peak:
        name, who = options.peak
        step = {OURS: ours, PEER: theirs}[who](name, *task(name, sizes[name]))
        with float32_arithmetic():
            print(measuring.peak_mebibytes(step, device))
        return
    if options.call:
        print(json.dumps(called(options.call)))
        return
    found: dict[str, Any] = {"machine": measuring.machine(device), "rounds": options.rounds, "tasks": {}}
    if options.large:
        found["tasks"][LARGE] = raced_large(options.rounds)
        print(json.dumps(found["tasks"][LARGE]), flush=True)
    for name in () if options.large else TASKS:
        with contextlib.redirect_stdout(sys.stderr), float32_arithmetic():
            difference = disagreement(name)
            steps = {who: make(name, *task(name, sizes[name])) for who, make in ((OURS, ours), (PEER, theirs))}
            row = {"batch_size": sizes[name], "largest_difference": difference, **raced(steps, options.rounds)}
        command = [sys.executable, __file__, "--batch-size", str(options.batch_size), "--peak", name]
        row["peak_mebibytes"] = {
            who: float(subprocess.run([*command, who], check=True, capture_output=True, text=True).stdout.split()[-1])
            for who in steps
        }
        found["tasks"][name] = row
        print(f"{name}: {row['ratio_of_medians']:.2f} of auto_LiRPA's time, MiB {row['peak_mebibytes']}", flush=True)
    found["memory_of_steps"] = {}
    networks = [] if options.large else [("CNN-7", {}, 4 * options.rounds), ("small", SMALL, 200 * options.rounds)]
    for name, network, rounds in networks:
        row = {"batch_size": 4, **raced(by_intervals(network, 4), rounds)}
        found["memory_of_steps"][name] = row
        print(
            f"intervals of {name} that remember nothing: {row['ratio_of_medians']:.3f} of the time without", flush=True
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
