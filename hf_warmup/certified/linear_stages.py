"""One batch of images through backward linear bounds: CROWN-IBP, CROWN or alpha-CROWN, in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_warmup.bounds import input_interval, margins, propagate
from hf_warmup.bounds.box import Box
from hf_warmup.bounds.linear import (
    Slopes,
    alpha_margins,
    linear_margins,
    margins_with,
    refiner,
    sizes_behind,
    storable,
    with_steps,
)
from hf_warmup.bounds.linear.backward import LinearRules
from hf_warmup.bounds.margins import rivals_of
from hf_warmup.certified.consistency import check_function


_UNIT_ROUNDOFF = 2.0**-53
# Numbers in a batch's largest tensor of coefficients; alpha-CROWN keeps one for every operation.
_NUMBERS = {"crown-ibp": 2**23, "crown": 2**23, "alpha-crown": 2**21}
# The most of one image, 512 MB and 64 MB, with several such tensors at once: no stage begins what would not end well.
_MOST = {"crown-ibp": 2**26, "crown": 2**26, "alpha-crown": 2**23}
# Numbers in the largest tensor of coefficients of CROWN's inner bounds.
_BUDGET = 2**23


@dataclass(frozen=True)
class SlopeRows:
    """Slopes below undecided ReLUs that prove leads over single rivals; without them nobody need search again.

    Attributes:
        image: numbers of images, (R,).
        rival: the class that each row is about, (R,).
        relus: of each ReLU, in the order of the forward pass, (R, *shape) in float32.
    """

    image: Tensor
    rival: Tensor
    relus: tuple[Tensor, ...]

    def of(self, images: Tensor) -> "SlopeRows":
        """The same rows, with other numbers for the images 0, 1, ..."""
        return SlopeRows(images[self.image], self.rival, self.relus)


def joined(parts: list[SlopeRows]) -> SlopeRows | None:
    """All rows of several batches, whose images come in ascending order; None where there are none."""
    parts = [part for part in parts if len(part.image)]
    if not parts:
        return None
    relus = tuple(torch.cat(each) for each in zip(*(part.relus for part in parts), strict=True))
    return SlopeRows(torch.cat([part.image for part in parts]), torch.cat([part.rival for part in parts]), relus)


def linear_stage(
    stage: str,
    model: nn.Module,
    box: Box,
    labels: Tensor,
    rules: LinearRules,
    unrelaxed: set[str],
    generator: torch.Generator,
) -> tuple[Tensor, SlopeRows | None]:
    """Margins, (B,): of each rival the better of linear and interval bounds, -inf where they are not numbers.

    With alpha-CROWN also the slopes of the images that they prove, for the rivals that need them.

    Args:
        stage: "crown-ibp", "crown" or "alpha-crown".
        model: in float64.
        box: around B images in float64.
        labels: (B,).
        rules: linear bounds of operations.
        unrelaxed: takes the names of operations that have none.
        generator: of the points at which bounds are compared with what the model computes.

    Raises:
        ValueError: as `check_function`.
    """
    refine = None if stage == "crown-ibp" else refiner(rules, budget=_BUDGET)
    interval = box.interval(rounding=_UNIT_ROUNDOFF)
    logits = propagate(model, with_steps(interval, refine=refine))
    check_function(model, interval, logits, generator)
    found = _better(linear_margins(logits, labels, rules=rules, unrelaxed=unrelaxed), margins(logits, labels))
    rows = None
    if stage == "alpha-crown" and not bool((found > 0).all()):
        slopes = storable(alpha_margins(logits, labels, rules=rules)[1])
        chosen = margins_with(slopes, logits, labels, rules=rules)
        needed = ~(found > 0) & (chosen > 0)
        found = _better(chosen, found)
        rows = _rows(slopes, needed & (found > 0).all(1, keepdim=True), labels)
    margin = found.amin(1)
    return torch.where(margin < torch.inf, margin, -torch.inf), rows


def _rows(slopes: Slopes, chosen: Tensor, labels: Tensor) -> SlopeRows:
    """Of slopes (S, B, ...) those of some pairs of image and rival, (B, S)."""
    image, place = chosen.nonzero(as_tuple=True)
    rival = rivals_of(labels.long(), chosen.shape[1] + 1)[image, place]
    steps = sorted(slopes, key=lambda step: step.depth)
    return SlopeRows(image.cpu(), rival.cpu(), tuple(slopes[step][place, image].float().cpu() for step in steps))


def batch_for(model: nn.Module, image: Tensor, stage: str, most: int) -> int:
    """How many images a stage bounds at once, by the largest tensor of one image, (1, ...); 0 if that is too large."""
    sizes = sizes_of(model, image)
    # The first are the logits, of which all but the label's are rows.
    numbers = (sizes[0] - 1) * max(sizes)
    return 0 if numbers > _MOST[stage] else max(1, min(most, _NUMBERS[stage] // numbers))


def _better(one: Tensor, other: Tensor) -> Tensor:
    # What is no number takes nothing from the other.
    return torch.fmax(one, other)


def sizes_of(model: nn.Module, image: Tensor) -> list[int]:
    """Elements of each interval from one image's logits back to the image, (1, ...) in float64."""
    return sizes_behind(propagate(model, with_steps(input_interval(image, 0.0, rounding=_UNIT_ROUNDOFF))))
