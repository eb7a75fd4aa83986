"""One batch of images through backward linear bounds: CROWN-IBP, CROWN or alpha-CROWN, in float64."""

import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval, input_interval, margins, propagate
from hf_warmup.bounds.linear import alpha_margins, linear_margins, refiner, with_steps
from hf_warmup.bounds.linear.backward import LinearRules
from hf_warmup.certified.consistency import check_function


_UNIT_ROUNDOFF = 2.0**-53
# Numbers in a batch's largest tensor of coefficients; alpha-CROWN keeps one for every operation.
_NUMBERS = {"crown-ibp": 2**23, "crown": 2**23, "alpha-crown": 2**21}
# The most of one image, 512 MB and 64 MB, with several such tensors at once: no stage begins what would not end well.
_MOST = {"crown-ibp": 2**26, "crown": 2**26, "alpha-crown": 2**23}
# Numbers in the largest tensor of coefficients of CROWN's inner bounds.
_BUDGET = 2**23


def linear_stage(
    stage: str,
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    eps: float,
    rules: LinearRules,
    unrelaxed: set[str],
    generator: torch.Generator,
) -> Tensor:
    """Margins, (B,): of each rival the better of linear and interval bounds, -inf where they are not numbers.

    Args:
        stage: "crown-ibp", "crown" or "alpha-crown".
        model: in float64.
        pixel_values: in float64, (B, ...).
        labels: (B,).
        eps: radius.
        rules: linear bounds of operations.
        unrelaxed: takes the names of operations that have none.
        generator: of the points at which bounds are compared with what the model computes.

    Raises:
        ValueError: as `check_function`.
    """
    refine = None if stage == "crown-ibp" else refiner(rules, budget=_BUDGET)
    box = input_interval(pixel_values, eps, rounding=_UNIT_ROUNDOFF)
    logits = propagate(model, with_steps(box, refine=refine))
    check_function(model, box, logits, generator)
    found = _better(linear_margins(logits, labels, rules=rules, unrelaxed=unrelaxed), margins(logits, labels))
    if stage == "alpha-crown" and not bool((found > 0).all()):
        found = _better(alpha_margins(logits, labels, rules=rules)[0], found)
    margin = found.amin(1)
    return torch.where(margin < torch.inf, margin, -torch.inf)


def batch_for(model: nn.Module, image: Tensor, stage: str, most: int) -> int:
    """How many images a stage bounds at once, by the largest tensor of one image, (1, ...); 0 if that is too large."""
    box = input_interval(image, 0.0, rounding=_UNIT_ROUNDOFF)
    logits = propagate(model, with_steps(box))
    rows = logits.clean[0].numel() - 1
    numbers = rows * _widest(logits)
    return 0 if numbers > _MOST[stage] else max(1, min(most, _NUMBERS[stage] // numbers))


def _better(one: Tensor, other: Tensor) -> Tensor:
    # What is no number takes nothing from the other.
    return torch.fmax(one, other)


def _widest(interval: Interval) -> int:
    """Elements of the largest interval on the way back to the input."""
    seen: set[int] = set()
    pending, widest = [interval], 1
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            widest = max(widest, one.numel())
            pending += [] if one.step is None else one.step.operands()
    return widest
