"""Methods of certified training: which box is bounded, and what is made of its margins.

All but CROWN-IBP take their margins from intervals alone; three blend them with what an attack attains.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds import Interval, input_interval
from hf_warmup.bounds.interval import Rules, from_ends, made
from hf_warmup.certified.objectives.adversary import TrainingAttack


def robust_cross_entropy(margins: Tensor) -> Tensor:
    """Mean of `log(1 + sum_j exp(-margin_j))`: cross-entropy if every rival were as close as its bound allows.

    Args:
        margins: lower bounds from `bounds.margins`, (B, K - 1).

    Source: Shi et al., arXiv 2103.17268, section 3.1; Wong & Kolter, arXiv 1711.00851, theorem 2.
    """
    worst = torch.cat([torch.zeros_like(margins[:, :1]), -margins], dim=1)
    return F.cross_entropy(worst, torch.zeros(len(margins), dtype=torch.long, device=margins.device))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")


class Method:
    """What the methods, which are values, have in common.

    Attributes:
        attack: the attack of every step, None without one.
    """

    attack: TrainingAttack | None = None
    # Of the accuracy that margins above 0 are: what they prove.
    proves = "verified_accuracy"
    # Whether the loss asks for margins at the points that the attack has found.
    learns_points = False

    def linear_weight_at(self, share: float) -> float:
        """Weight of margins by linear bounds where the radius is this share of the full one."""
        return 0.0

    def box(self, pixel_values: Tensor, eps: Tensor, points: Tensor | None, **options: Any) -> Interval:
        """The input's interval; `points` are those of the attack, None without one."""
        return input_interval(pixel_values, eps, **options)

    def loss(self, proven: Tensor, attained: Tensor | None) -> Tensor:
        """Robust loss of margins that are proven, and of those at the attack's points, (B, K - 1) each."""
        return robust_cross_entropy(proven)


@dataclass(frozen=True)
class Ibp(Method):
    """Margins by intervals (Gowal et al., arXiv 1810.12715; Shi et al., arXiv 2103.17268)."""


@dataclass(frozen=True)
class CrownIbp(Method):
    """Margins by intervals, blended with those of one walk of linear bounds back to the input, without loss fusion.

    Attributes:
        linear_weight: of the linear bounds at the full radius; it falls to this from 1 as the radius grows.

    Source: Zhang et al., arXiv 1906.06316, section 3.3, where it ends at 0.
    """

    linear_weight: float = 0.0

    def __post_init__(self) -> None:
        _check_share("linear_weight", self.linear_weight)

    def linear_weight_at(self, share: float) -> float:
        """See `Method`; below 1e-5 linear bounds are left out, as in the published code."""
        weight = 1.0 - share * (1.0 - self.linear_weight)
        return weight if weight >= 1e-5 else 0.0


@dataclass(frozen=True)
class Sabr(Method):
    """Margins by intervals of a small box about the attack's point, within the whole one.

    Attributes:
        box_share: width of the small box over that of the whole, lambda of the paper; at 1 the method is IBP.
        relu_shrink: upper ends of units that may be on or off are multiplied by it before each ReLU.
        attack: finds the point.

    Source: Mueller et al., arXiv 2210.04871, section 3.
    """

    box_share: float
    relu_shrink: float = 1.0
    attack: TrainingAttack | None = field(default_factory=TrainingAttack)
    proves = "small_box_accuracy"

    def __post_init__(self) -> None:
        _check_share("box_share", self.box_share)
        _check_share("relu_shrink", self.relu_shrink)
        if self.box_share == 1:
            object.__setattr__(self, "attack", None)

    def box(self, pixel_values: Tensor, eps: Tensor, points: Tensor | None, **options: Any) -> Interval:
        """See `Method`."""
        if self.relu_shrink < 1:
            options["rules"] = _with_shrinking_relu(options["rules"], self.relu_shrink)
        whole = input_interval(pixel_values, eps, **options)
        if points is None:
            return whole
        radius = self.box_share * whole.radius
        center = torch.minimum(torch.maximum(points, whole.lower + radius), whole.upper - radius)
        return made(whole, pixel_values, center, radius)


@dataclass(frozen=True)
class MtlIbp(Method):
    """`a IBP + (1 - a) adversarial`: the two losses added.

    Attributes:
        ibp_weight: a, alpha of the paper; at 1 the method is IBP, at 0 adversarial training.
        attack: finds the points.

    Source: De Palma et al., arXiv 2305.13991, section 4.2.
    """

    ibp_weight: float
    attack: TrainingAttack | None = field(default_factory=TrainingAttack)
    learns_points = True

    def __post_init__(self) -> None:
        _check_share("ibp_weight", self.ibp_weight)
        if self.ibp_weight == 1:
            object.__setattr__(self, "attack", None)

    def loss(self, proven: Tensor, attained: Tensor | None) -> Tensor:
        """See `Method`."""
        # A bound that is infinite must not come back as 0 times infinity.
        if attained is None or self.ibp_weight == 0:
            return robust_cross_entropy(proven if attained is None else attained)
        return self.blended(proven, attained)

    def blended(self, proven: Tensor, attained: Tensor) -> Tensor:
        """The loss where both parts count."""
        weight = self.ibp_weight
        return weight * robust_cross_entropy(proven) + (1.0 - weight) * robust_cross_entropy(attained)


@dataclass(frozen=True)
class CcIbp(MtlIbp):
    """As `MtlIbp`, of margins that are blended before the loss is taken (section 4.1)."""

    def blended(self, proven: Tensor, attained: Tensor) -> Tensor:
        """See `MtlIbp`."""
        return robust_cross_entropy(self.ibp_weight * proven + (1.0 - self.ibp_weight) * attained)


@dataclass(frozen=True)
class ExpIbp(MtlIbp):
    """As `MtlIbp`, `IBP^a adversarial^(1 - a)` of the batch's mean losses (section 4.3; means as in CTBench)."""

    def blended(self, proven: Tensor, attained: Tensor) -> Tensor:
        """See `MtlIbp`."""
        weight = self.ibp_weight
        return robust_cross_entropy(proven) ** weight * robust_cross_entropy(attained) ** (1.0 - weight)


def _with_shrinking_relu(rules: Rules, factor: float) -> Rules:
    def shrinking(rule: Callable[..., Any]) -> Callable[..., Any]:
        def shrunk(input: Interval, *args: Any, **kwargs: Any) -> Any:
            lower, upper = input.lower, input.upper
            upper = torch.where((lower < 0) & (upper > 0), factor * upper, upper)
            return rule(replace(from_ends(input, input.clean, lower, upper), spent=input.spent), *args, **kwargs)

        return shrunk

    return {**rules, **{func: shrinking(rules[func]) for func in (F.relu, torch.relu, Tensor.relu)}}
