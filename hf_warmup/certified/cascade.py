"""A cascade of verifiers on an unmodified model: cheap ones first, each for what the one before left undecided.

Interval bounds come first, an attack next, which ends an image by a counterexample, then backward linear bounds from
CROWN-IBP to alpha-CROWN. Every proof is made in float64 with `rounding`, as interval bounds are; `Certificate` says
what each stage did, and which stages ran out of time or memory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval
from hf_warmup.bounds.box import Box, Radius, box_of
from hf_warmup.bounds.linear import LINEAR_RULES
from hf_warmup.bounds.linear.backward import Backward, LinearRule
from hf_warmup.bounds.margins import check_labels
from hf_warmup.certified.attacks import pgd
from hf_warmup.certified.blocks import Blocks, OutOfTime, Part, Progress, block_size, in_batches
from hf_warmup.certified.linear_stages import SlopeRows, batch_for, joined, linear_stage
from hf_warmup.certified.requirements import check_batch
from hf_warmup.certified.verifier import VERIFIER, Certificate, Verifier, batch_of
from hf_warmup.data.random_streams import stream_seed
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
# Images that linear bounds take at once, more gain nothing; and those of a block at least, as one may take seconds.
_MOST_LINEAR = 32
_LEAST_LINEAR = 8


def certify(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    *,
    eps: Radius | None = None,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    method: str = "cascade",
    batch_size: int | Literal["auto"] = 256,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Prove, image by image, that the model answers with the label everywhere within `eps` (L-infinity), or between
    `lower` and `upper`; pixels are cut to [0, 1].

    Args:
        model: any module whose operations have rules, in eval mode, float32 or float64.
        pixel_values: (B, C, H, W) in [0, 1].
        labels: (B,), integers in [0, K).
        eps: radius in pixel units, such as "8/255". A tensor (B,) has one for each image, even where B is also the
            number of an image's columns; any other is broadcast to one image or to all of them: (C, 1, 1) has one for
            each channel, (B, C, H, W) one for each pixel, 0 where nothing may change. A tensor means exactly the
            numbers that it holds.
        lower, upper: instead of `eps`, the ends of each pixel's range, tensors as `eps`; the image must lie between.
        method: "ibp", "crown-ibp", "crown", "alpha-crown" (after "crown"), or "cascade": all of them with attacks in
            between.
        batch_size: images bounded at once, or "auto" for as many as fit into memory; linear bounds take fewer where
            the model is large.
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
    if batch_size != "auto" and batch_size < 1:
        raise ValueError(f'batch_size must be at least 1, or "auto", got {batch_size}.')
    with torch.inference_mode(False), torch.no_grad():
        pixel_values, labels = check_batch(model, pixel_values, labels)
        box = box_of(pixel_values, eps, lower=lower, upper=upper)
        size = batch_of(Verifier(model), pixel_values, "auto") if batch_size == "auto" else batch_size
    work = Blockwise(method, size, time_limit, progress)
    return certify_in_blocks(model, pixel_values, labels, box, work)


@dataclass(frozen=True)
class Blockwise:
    """How images are worked on: see `certify`, and `Blocks`."""

    method: str = "cascade"
    batch_size: int = 256
    time_limit: float | None = None
    progress: Progress | None = None
    blocks: Blocks = field(default_factory=Blocks)


def certify_in_blocks(
    model: nn.Module, pixel_values: Tensor, labels: Tensor, eps: Radius | Box, work: Blockwise
) -> Certificate:
    """As `certify`, by several processes or starts if `work.blocks` says so; on all of them the same is returned."""
    # Linear bounds are made of gradients.
    with torch.inference_mode(False), torch.no_grad():
        verifier = Verifier(model)
        pixel_values, labels = check_batch(model, pixel_values, labels)
        run = _Run(verifier, eps if isinstance(eps, Box) else box_of(pixel_values, eps), labels, work)
        for stage in METHODS[work.method]:
            run.verify(stage)
            if work.method == "cascade" and stage in _ATTACKS:
                run.attack(_ATTACKS[stage])
        return run.certificate(VERIFIER if work.method == "ibp" else LINEAR_VERIFIER)


# What is found of a batch: its images' numbers and a generator of random numbers go in, tensors by name come out.
_Find = Callable[[Tensor, torch.Generator], dict[str, Tensor]]


@dataclass
class _Run:
    """What is known so far of every image of a call."""

    verifier: Verifier
    box: Box
    labels: Tensor
    work: Blockwise
    method: list[str | None] = field(default_factory=list)
    unrelaxed: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    slopes: list[SlopeRows] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, images = len(self.labels), self.box.pixel_values
        self.verifier.check(self.box)
        limit = self.work.time_limit
        self.deadline = None if limit is None else time.monotonic() + limit
        self.method = [None] * count
        self.margin = torch.full((count,), -torch.inf, dtype=torch.float64, device=images.device)
        logits = torch.cat([self.verifier.logits(part) for part in torch.split(images, self.work.batch_size)])
        check_labels(self.labels, count, logits.shape[1])
        self.predictions, own = logits.argmax(1), self.labels.long()[:, None]
        self.leads = logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)
        # Whatever is answered wrongly is no stage's business; a tie is that, and no counterexample.
        self.open = self.predictions == self.labels
        # Written to, where the images themselves must stay as they are.
        self.found = images.to(torch.float64, copy=True)
        self.falsified = torch.zeros_like(self.open)
        for wrong in torch.split((~self.open).nonzero().flatten(), self.work.batch_size):
            points, labels = self.found[wrong], self.labels[wrong]
            self.falsified[wrong] = self.verifier.refutes(points, self.box[wrong], labels)

    def verify(self, stage: str) -> None:
        """Let a stage look at what is undecided."""
        if stage == "ibp":
            # Intervals say a margin of every image.
            every = torch.arange(len(self.labels), device=self.margin.device)
            self._in_blocks(stage, every, self.work.batch_size, self._by_intervals)
            return
        left = self._left()
        if len(left):
            exact, images = self.verifier.exact, self.box.pixel_values
            with _proving(images.device):
                size = batch_for(exact, images[left[:1]].double(), stage, min(self.work.batch_size, _MOST_LINEAR))
            if size == 0:
                self.stopped[stage], self.seconds[stage] = "memory", 0.0
                return
            self._in_blocks(stage, left, size, partial(self._by_lines, stage))

    def attack(self, steps: int) -> None:
        """Look for points that end images."""
        self._in_blocks("pgd", self._left(), self.work.batch_size, partial(self._attack, steps), f"-{steps}")

    def certificate(self, verifier: str) -> Certificate:
        """All that was found."""
        return Certificate(
            self.margin,
            self.margin > 0,
            self.box.largest_radius,
            verifier,
            method=tuple(self.method),
            predictions=self.predictions,
            leads=self.leads,
            falsified=self.falsified,
            counterexamples=self.found[self.falsified],
            unrelaxed=tuple(sorted(self.unrelaxed)),
            seconds=self.seconds,
            looked=self.looked,
            stopped=self.stopped,
            slopes=joined(self.slopes),
            box=self.box,
        )

    def _left(self) -> Tensor:
        return self.open.nonzero().flatten()

    def _in_blocks(self, stage: str, left: Tensor, size: int, find: _Find, kind: str = "") -> None:
        """Let images be looked at block by block, and take what was found of them."""
        progress, purpose = self.work.progress, stage + kind

        def block(images: Tensor, told: Callable[[int], None]) -> Part:
            generator = torch.Generator().manual_seed(stream_seed(0, purpose, int(images[0])))
            part = in_batches(images.to(left.device), size, partial(self._batch, find, generator), told)
            part.said["unrelaxed"] = sorted(self.unrelaxed)
            return part

        tell = None if progress is None else partial(progress, stage)
        length = block_size(size) if stage in ("ibp", "pgd") else block_size(size, _LEAST_LINEAR)
        parts = self.work.blocks.each(purpose, left, length, block, tell)
        self.seconds.setdefault(stage, 0.0)
        looked = sum(self._take(stage, part) for part in parts)
        self.looked[stage] = max(looked, self.looked.get(stage, 0))

    def _batch(self, find: _Find, generator: torch.Generator, chosen: Tensor) -> dict[str, Tensor]:
        self._in_time()
        return {"image": chosen, **find(chosen, generator)}

    def _take(self, stage: str, part: Part) -> int:
        """Add what was found of a block to what is known; returns how many images were looked at."""
        self.seconds[stage] += part.said["seconds"]
        self.unrelaxed |= set(part.said["unrelaxed"])
        if part.stopped is not None:
            self.stopped[stage] = part.stopped
        if not part.tensors:
            return 0
        found = {name: tensor.to(self.margin.device) for name, tensor in part.tensors.items()}
        chosen = found["image"]
        if "margin" in found:
            self.margin[chosen] = torch.maximum(self.margin[chosen], found["margin"])
            proven = chosen[found["margin"] > 0]
            self.open[proven] = False
            for index in proven.tolist():
                self.method[index] = stage
        if "rival" in found:
            relus = (part.tensors[f"relu.{place}"] for place in range(len(found) - 4))
            self.slopes.append(SlopeRows(part.tensors["row"], part.tensors["rival"], tuple(relus)))
        if "hit" in found:
            hit = found["hit"]
            self.found[hit], self.falsified[hit], self.open[hit] = found["point"], True, False
        return len(chosen)

    def _in_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime

    def _by_intervals(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with proof_arithmetic(self.margin.device):
            return {"margin": self.verifier.batch_margin(self.box[chosen], self.labels[chosen], generator)}

    def _by_lines(self, stage: str, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rules = {func: self._watched(rule) for func, rule in LINEAR_RULES.items()}
        box, labels = self.box[chosen].to(torch.float64), self.labels[chosen]
        exact, unrelaxed = self.verifier.exact, self.unrelaxed
        with _proving(self.margin.device):
            margin, rows = linear_stage(stage, exact, box, labels, rules, unrelaxed, generator)
        if rows is None:
            return {"margin": margin}
        relus = {f"relu.{place}": part for place, part in enumerate(rows.relus)}
        return {"margin": margin, "row": chosen.cpu()[rows.image], "rival": rows.rival, **relus}

    def _attack(self, steps: int, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        box, labels = self.box[chosen], self.labels[chosen]
        with proof_arithmetic(self.margin.device):
            model = self.verifier.model
            rough = box.to(next(model.parameters()).dtype)
            found = pgd(model, rough.pixel_values, labels, rough, steps=steps, generator=generator).pixel_values
        # What the model's own precision rounds must not lie outside.
        found = box.nearest(found.double())
        broken = self.verifier.refutes(found, box, labels)
        return {"hit": chosen[broken], "point": found[broken]}

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
