"""A classifier judged on a split: what it gets right, what is proven of it, and what an attack could break."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from hf_warmup.bounds.box import box_of
from hf_warmup.bounds.propagation import logits_in
from hf_warmup.certified import Verifier, parse_eps, pgd
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Blocks, Progress
from hf_warmup.data.images import Images
from hf_warmup.data.splits import drawn
from hf_warmup.records.files import Record
from hf_warmup.training.precision import float32_arithmetic


EVALUATION_BATCH = 512
# Images whose bounds are computed at once.
BOUNDED_BATCH = 256
_COLUMNS = ("predictions", "clean", "verified", "margin")
# Random numbers that are passed over at once.
_DRAWN = 2**22


@dataclass(frozen=True)
class Assessment:
    """What was found, per image.

    Attributes:
        predictions: predicted class without perturbation, (N,).
        clean: whether that is the label, (N,).
        verified, margin: see `Certificate`, (N,).
        broken: whether the attack found a misclassified point, for the M <= N images that were attacked;
            None without an attack.
    """

    predictions: Tensor
    clean: Tensor
    verified: Tensor
    margin: Tensor
    broken: Tensor | None = None

    def accuracies(self) -> dict[str, float]:
        """Shares of the images; PGD's among those that were attacked."""
        shares = {"clean_accuracy": self.clean, "verified_accuracy": self.verified}
        if self.broken is not None:
            shares["pgd_accuracy"] = ~self.broken
        return {name: float(part.double().mean()) for name, part in shares.items()}

    def counts(self) -> Record:
        """How many images were verified, judged and attacked."""
        attacked = 0 if self.broken is None else len(self.broken)
        return {
            "num_verified": int(self.verified.sum()),
            "num_examples": len(self.verified),
            "num_attacked": attacked,
        }


@torch.no_grad()
@float32_arithmetic()
def assess(
    model: nn.Module,
    images: Images,
    eps: str,
    *,
    attack: PgdConfig | None = None,
    batch_size: int = EVALUATION_BATCH,
    blocks: Blocks | None = None,
    proven: Tensor | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Judge a model at a radius; PGD on images drawn by a fixed seed if the attack is limited.

    Args:
        model: in eval mode, taking pixels in [0, 1].
        images: the split.
        eps: radius in pixel units, such as "8/255".
        attack: none by default.
        batch_size: images at once.
        blocks: who does the work; this process by default.
        proven: images that more than intervals proves, (N,), which the attack must leave alone as well.
        progress: see `certify`.

    Raises:
        RuntimeError: if a verified image is broken, which would mean a wrong bound.
        ValueError, UnsupportedOperation: as `hf_warmup.certify`.
    """
    blocks = blocks or Blocks()
    judging = _Judging(model, images, eps, batch_size, blocks, progress)
    found = judging.judge()
    if attack is None:
        return found
    return judging.attack(found, found.verified if proven is None else found.verified | proven.cpu(), attack)


@torch.no_grad()
@float32_arithmetic()
def attacked(
    model: nn.Module, images: Images, eps: str, found: Assessment, attack: PgdConfig, *, blocks: Blocks
) -> Assessment:
    """What `assess` has found of a model at a radius without an attack, and what the attack breaks.

    Raises:
        As `assess`.
    """
    return _Judging(model, images, eps, EVALUATION_BATCH, blocks, None).attack(found, found.verified, attack)


@dataclass
class _Judging:
    """The work of `assess`, block by block."""

    model: nn.Module
    images: Images
    eps: str
    batch_size: int
    blocks: Blocks
    progress: Progress | None

    def __post_init__(self) -> None:
        self.verifier, self.device = Verifier(self.model), next(self.model.parameters()).device

    def judge(self) -> Assessment:
        """Everything but the attack."""
        found = self._each("answers", self._judge)
        return Assessment(*(found[name] for name in _COLUMNS))

    def attack(self, found: Assessment, proven: Tensor, attack: PgdConfig) -> Assessment:
        """The same with the attack, which must break no proven image."""
        attacked = torch.zeros(len(self.images), dtype=torch.bool)
        attacked[drawn(len(self.images), attack.examples)] = True
        # The starts of all images are one sequence of random numbers, whoever attacks which of them.
        starts = _Starts(attacked & found.clean, self.images.images[0].numel())
        find = partial(self._attack, attacked, proven, attack, starts)
        return replace(found, broken=self._each("attack", find)["broken"])

    def _each(self, purpose: str, find: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        return self.blocks.whole(purpose, len(self.images), self.batch_size, find, self.progress)

    def _batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        batch = {name: part.to(self.device) for name, part in self.images.__getitems__(chosen).items()}
        return batch["pixel_values"], batch["labels"]

    def _judge(self, chosen: Tensor) -> dict[str, Tensor]:
        pixel_values, labels = self._batch(chosen)
        size = min(BOUNDED_BATCH, self.batch_size)
        certificate = self.verifier.certify(pixel_values, labels, eps=self.eps, batch_size=size)
        output = self.model(pixel_values)
        predictions = logits_in(output).argmax(1)
        found = (predictions, predictions == labels, certificate.verified, certificate.margin)
        return dict(zip(_COLUMNS, found, strict=True))

    def _attack(
        self, attacked: Tensor, verified: Tensor, attack: PgdConfig, starts: "_Starts", chosen: Tensor
    ) -> dict[str, Tensor]:
        some = chosen[attacked[chosen]]
        if not len(some):
            return {"broken": torch.zeros(0, dtype=torch.bool)}
        points, proven = (*self._batch(some), parse_eps(self.eps)), verified[some].to(self.device)
        generator = starts.of(int(some[0]))
        result = pgd(self.model, *points, steps=attack.steps, restarts=attack.restarts, generator=generator)
        doubtful = result.broken & proven
        _check(self.verifier, result.pixel_values, points, doubtful, some)
        # What was proven and is no counterexample in float64 is an error of rounding of the attacked pass.
        return {"broken": result.broken & ~doubtful}


class _Starts:
    """The attack's random numbers: one sequence, of which each image that is answered rightly takes its part.

    Args:
        takes: whether an image takes numbers, (N,).
        numbers: how many.
    """

    def __init__(self, takes: Tensor, numbers: int) -> None:
        self._before = numbers * (takes.cumsum(0) - takes.long())
        self._generator, self._drawn = torch.Generator().manual_seed(0), 0

    def of(self, image: int) -> torch.Generator:
        """The generator as it stands at an image; images come in ascending order but where one is tried again."""
        behind = int(self._before[image]) - self._drawn
        if behind < 0:
            self._generator, self._drawn, behind = self._generator.manual_seed(0), 0, int(self._before[image])
        for start in range(0, behind, _DRAWN):
            torch.rand(min(_DRAWN, behind - start), generator=self._generator)
        self._drawn += behind
        return torch.Generator().set_state(self._generator.get_state())


def _check(
    verifier: Verifier, found: Tensor, points: tuple[Tensor, Tensor, float], doubtful: Tensor, chosen: Tensor
) -> None:
    """Raise RuntimeError if a point in the box of a proven image is misclassified in float64 as well."""
    at = doubtful.nonzero().flatten()
    if len(at) == 0:
        return
    wrong = verifier.refutes(found[at], box_of(points[0], points[2])[at], points[1][at])
    if bool(wrong.any()):
        index = int(chosen[int(at[wrong][0])])
        raise RuntimeError(f"image {index} was verified and yet broken by PGD: a bound is wrong. Please report this.")
