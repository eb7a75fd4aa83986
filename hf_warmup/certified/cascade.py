"""A cascade of verifiers on an unmodified model: cheap ones first, each for what the one before left undecided.

Interval bounds come first, an attack next, which ends an image by a counterexample, then backward linear bounds from
CROWN-IBP to alpha-CROWN. Every proof is made in float64 with `rounding`, as interval bounds are; `Certificate` says
what each stage did, and which stages ran out of time or memory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval
from hf_warmup.bounds.linear import LINEAR_RULES
from hf_warmup.bounds.linear.backward import Backward, LinearRule
from hf_warmup.bounds.margins import check_labels
from hf_warmup.bounds.radius import parse_eps
from hf_warmup.certified.attacks import pgd
from hf_warmup.certified.linear_stages import SlopeRows, batch_for, joined, linear_stage
from hf_warmup.certified.verifier import VERIFIER, Certificate, Verifier
from hf_warmup.numpy_verifier.claims import LINEAR_VERIFIER
from hf_warmup.training.precision import proof_arithmetic


STAGES = ("ibp", "crown-ibp", "crown", "alpha-crown")
# Which stages a method has; alpha-CROWN's search is for what CROWN's own slopes do not prove.
METHODS = {
    "ibp": ("ibp",),
    "crown-ibp": ("crown-ibp",),
    "crown": ("crown",),
    "alpha-crown": ("crown", "alpha-crown"),
    "cascade": STAGES,
}
# Steps of the attacks: after intervals, and before the stage that takes longest.
_ATTACKS = {"ibp": 20, "crown": 100}

# Told of (stage, images done, images it has to do).
Progress = Callable[[str, int, int], None]


def certify(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    *,
    eps: float | str | Fraction,
    method: str = "cascade",
    batch_size: int = 256,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Prove, image by image, that the model answers with the label everywhere within `eps` (L-infinity, pixels cut to
    [0, 1]).

    Args:
        model: any module whose operations have rules, in eval mode, float32 or float64.
        pixel_values: (B, C, H, W) in [0, 1].
        labels: (B,), integers in [0, K).
        eps: radius in pixel units, such as "8/255".
        method: "ibp", "crown-ibp", "crown", "alpha-crown" (after "crown"), or "cascade": all of them with attacks in
            between.
        batch_size: images bounded at once; linear bounds take fewer where the model is large.
        time_limit: seconds after which no stage goes on; what is undecided then stays unknown.
        progress: called after each batch with the stage's name, images done and images to do.

    Raises:
        ValueError: for a radius, pixels, labels, a method or a model that cannot be certified (see the message).
        UnsupportedOperation: if the model uses an operation without a rule.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds, got {time_limit}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    # Linear bounds are made of gradients.
    with torch.inference_mode(False), torch.no_grad():
        verifier, radius = Verifier(model), parse_eps(eps)
        run = _Run(verifier, pixel_values, labels, radius, batch_size, time_limit, progress)
        for stage in METHODS[method]:
            run.verify(stage)
            if method == "cascade" and stage in _ATTACKS:
                run.attack(_ATTACKS[stage])
        return run.certificate(VERIFIER if method == "ibp" else LINEAR_VERIFIER)


class _OutOfTime(Exception):
    pass


@dataclass
class _Run:
    """What is known so far of every image of a call."""

    verifier: Verifier
    pixel_values: Tensor
    labels: Tensor
    eps: float
    batch_size: int
    time_limit: float | None
    progress: Progress | None
    method: list[str | None] = field(default_factory=list)
    unrelaxed: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    slopes: list[SlopeRows] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, device = len(self.labels), self.pixel_values.device
        each = torch.full((count,), self.eps, dtype=torch.float64, device=device)
        self.generator = self.verifier.check(self.pixel_values, self.labels, each)
        self.deadline = None if self.time_limit is None else time.monotonic() + self.time_limit
        self.method = [None] * count
        self.margin = torch.full_like(each, -torch.inf)
        logits = [self.verifier.logits(part) for part in torch.split(self.pixel_values, self.batch_size)]
        check_labels(self.labels, count, logits[0].shape[1])
        self.predictions = torch.cat(logits).argmax(1)
        # Whatever is answered wrongly is no stage's business; a tie is that, and no counterexample.
        self.open = self.predictions == self.labels
        self.found = self.pixel_values.double()
        self.falsified = torch.zeros_like(self.open)
        for wrong in torch.split((~self.open).nonzero().flatten(), self.batch_size):
            points = self.found[wrong]
            self.falsified[wrong] = self.verifier.refutes(points, points, self.labels[wrong], self.eps)

    def verify(self, stage: str) -> None:
        """Let a stage look at what is undecided."""
        if stage == "ibp":
            # Intervals say a margin of every image.
            every = torch.arange(len(self.labels), device=self.margin.device)
            self._batches(stage, every, self.batch_size, self._by_intervals)
            return
        left = self._left()
        if len(left):
            exact, images = self.verifier.exact, self.pixel_values
            with _proving(images.device):
                size = batch_for(exact, images[left[:1]].double(), stage, self.batch_size)
            if size == 0:
                self.stopped[stage], self.seconds[stage] = "memory", 0.0
                return
            self._batches(stage, left, size, lambda chosen: self._by_lines(stage, chosen))

    def attack(self, steps: int) -> None:
        """Look for points that end images."""
        self._batches("pgd", self._left(), self.batch_size, lambda chosen: self._attack(chosen, steps))

    def certificate(self, verifier: str) -> Certificate:
        """All that was found."""
        return Certificate(
            self.margin,
            self.margin > 0,
            self.eps,
            verifier,
            method=tuple(self.method),
            predictions=self.predictions,
            falsified=self.falsified,
            counterexamples=self.found[self.falsified],
            unrelaxed=tuple(sorted(self.unrelaxed)),
            seconds=self.seconds,
            stopped=self.stopped,
            slopes=joined(self.slopes),
        )

    def _left(self) -> Tensor:
        return self.open.nonzero().flatten()

    def _batches(self, stage: str, left: Tensor, size: int, work: Callable[[Tensor], None]) -> None:
        """Work through images batch by batch, in smaller ones where memory ends, until time ends."""
        start, done = time.monotonic(), 0
        while done < len(left):
            try:
                self._in_time()
                work(left[done : done + size])
            except _OutOfTime:
                self.stopped[stage] = "time"
                break
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
                if size == 1:
                    self.stopped[stage] = "memory"
                    break
                size = max(1, size // 4)
                continue
            done = min(done + size, len(left))
            if self.progress is not None:
                self.progress(stage, done, len(left))
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start

    def _in_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise _OutOfTime

    def _by_intervals(self, chosen: Tensor) -> None:
        eps = torch.full((len(chosen),), self.eps, dtype=torch.float64, device=self.margin.device)
        images, labels = self.pixel_values[chosen], self.labels[chosen]
        with proof_arithmetic(images.device):
            margin = self.verifier.batch_margin(images, labels, eps, self.generator)
        self._take(chosen, margin, "ibp")

    def _by_lines(self, stage: str, chosen: Tensor) -> None:
        rules = {func: self._watched(rule) for func, rule in LINEAR_RULES.items()}
        images, labels = self.pixel_values[chosen].double(), self.labels[chosen]
        exact, unrelaxed = self.verifier.exact, self.unrelaxed
        with _proving(images.device):
            margin, rows = linear_stage(stage, exact, images, labels, self.eps, rules, unrelaxed, self.generator)
        if rows is not None:
            self.slopes.append(rows.of(chosen.cpu()))
        self._take(chosen, margin, stage)

    def _take(self, chosen: Tensor, margin: Tensor, stage: str) -> None:
        self.margin[chosen] = torch.maximum(self.margin[chosen], margin)
        for index, proven in zip(chosen.tolist(), (margin > 0).tolist(), strict=True):
            if proven:
                self.method[index] = stage
                self.open[index] = False

    def _attack(self, chosen: Tensor, steps: int) -> None:
        images, labels = self.pixel_values[chosen].double(), self.labels[chosen]
        with proof_arithmetic(images.device):
            model = self.verifier.model
            rough = images.to(next(model.parameters()).dtype)
            found = pgd(model, rough, labels, self.eps, steps=steps, generator=self.generator).pixel_values.double()
        # Ends that are rounded must not lie beyond the radius.
        inner = max(0.0, self.eps - 2.0**-50)
        found = torch.minimum(torch.maximum(found, images - inner), images + inner).clamp(0, 1)
        broken = self.verifier.refutes(found, images, labels, self.eps)
        hit = chosen[broken]
        self.found[hit], self.falsified[hit], self.open[hit] = found[broken], True, False

    def _watched(self, rule: LinearRule) -> LinearRule:
        def watched(step: Any, result: Interval, rows: Tensor) -> Backward | None:
            self._in_time()
            return rule(step, result, rows)

        return watched


@contextmanager
def _proving(device: torch.device) -> Iterator[None]:
    """The arithmetic of a proof; library convolutions may use transforms that the rounding bound does not cover."""
    with proof_arithmetic(device), torch.backends.cudnn.flags(enabled=False):
        yield


def _is_memory(error: BaseException) -> bool:
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return memory or "DefaultCPUAllocator: " in str(error)
