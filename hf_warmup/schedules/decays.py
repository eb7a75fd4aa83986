"""Decays: schedules that start at 1 and fall, or stay."""

import math
from collections.abc import Sequence

from hf_warmup.schedules._checks import check_fraction, check_positive


def constant(step: int) -> float:
    """No decay: 1 for ever."""
    return 1.0


def _progress(step: float, num_training_steps: float) -> float:
    check_positive("num_training_steps", num_training_steps)
    return min(1.0, max(0.0, step / num_training_steps))


def linear_decay(step: int, *, num_training_steps: float, min_lr_ratio: float = 0.0) -> float:
    """Straight line from 1 at step 0 to `min_lr_ratio` at `num_training_steps` and after.

    Args:
        num_training_steps: length of the run in updates.
        min_lr_ratio: floor, as a fraction of the base learning rate, in [0, 1].

    Example:
        >>> [linear_decay(s, num_training_steps=4) for s in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """
    check_fraction("min_lr_ratio", min_lr_ratio)
    return 1.0 - (1.0 - min_lr_ratio) * _progress(step, num_training_steps)


def cosine_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0) -> float:
    """Half a cosine from 1 to `min_lr_ratio` over `num_training_steps` updates (SGDR without restarts).

    Source: Loshchilov & Hutter, arXiv 1608.03983, equation 5.

    Example:
        >>> [round(cosine_decay(s, num_training_steps=4, min_lr_ratio=0.1), 3) for s in (0, 2, 4)]
        [1.0, 0.55, 0.1]
    """
    check_fraction("min_lr_ratio", min_lr_ratio)
    half_cosine = 0.5 * (1.0 + math.cos(math.pi * _progress(step, num_training_steps)))
    return min_lr_ratio + (1.0 - min_lr_ratio) * half_cosine


def polynomial_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0, power: float = 2.0) -> float:
    """`(1 - step / num_training_steps)^power`, scaled to end at `min_lr_ratio`.

    Args:
        power: exponent, > 0; 1 is `linear_decay`. The rest as there.

    Example:
        >>> [polynomial_decay(s, num_training_steps=4) for s in (0, 2, 4)]
        [1.0, 0.25, 0.0]
    """
    check_fraction("min_lr_ratio", min_lr_ratio)
    check_positive("power", power)
    return min_lr_ratio + (1.0 - min_lr_ratio) * math.pow(1.0 - _progress(step, num_training_steps), power)


def inverse_sqrt_decay(step: int, *, timescale: float) -> float:
    """`sqrt(timescale / t)` once `t = step + 1` exceeds `timescale`, 1 before.

    Times a linear warmup of the same period it is the Transformer's schedule.

    Args:
        timescale: updates at full rate before the decay sets in, > 0.

    Source: Vaswani et al., arXiv 1706.03762, section 5.3.

    Example:
        >>> [inverse_sqrt_decay(s, timescale=4) for s in (0, 3, 15)]
        [1.0, 1.0, 0.5]
    """
    check_positive("timescale", timescale)
    return math.sqrt(timescale / max(step + 1, timescale))


def wsd_decay(step: int, *, num_training_steps: int, min_lr_ratio: float = 0.0, decay_ratio: float = 0.1) -> float:
    """Warmup-stable-decay's second half: 1, then a straight line to `min_lr_ratio` over the run's last part.

    Args:
        decay_ratio: share of the run that decays, in (0, 1]. The rest as in `linear_decay`.

    Source: Hu et al. (MiniCPM), arXiv 2404.06395, section 4.

    Example:
        >>> [wsd_decay(s, num_training_steps=100, decay_ratio=0.5) for s in (0, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.0]
    """
    check_positive("decay_ratio", decay_ratio)
    check_fraction("decay_ratio", decay_ratio)
    decay_steps = decay_ratio * num_training_steps
    stable_steps = num_training_steps - decay_steps
    return 1.0 - (1.0 - min_lr_ratio) * _progress(step - stable_steps, decay_steps)


def multistep_decay(step: int, *, milestones: Sequence[int], factor: float) -> float:
    """`factor` to the number of milestones reached, as torch's MultiStepLR.

    Args:
        milestones: steps, increasing, at which the rate drops.
        factor: what it is multiplied by at each, in [0, 1].

    Example:
        >>> [multistep_decay(s, milestones=(2, 4), factor=0.5) for s in (1, 2, 4)]
        [1.0, 0.5, 0.25]
    """
    check_fraction("factor", factor)
    if list(milestones) != sorted(milestones):
        raise ValueError(f"milestones must increase, got {list(milestones)!r}.")
    return math.pow(factor, sum(step >= milestone for milestone in milestones))
