"""The two warmup regularizers: functions of the pre-activation bounds that a pass has left on its tape.

Means and sums run over the batch and all units of a layer together; every layer counts alike. Nothing is detached.
Source: Shi et al., arXiv 2103.17268, section 3.3.3; the handling of degenerate layers is as stated at each function.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_warmup.bounds import Interval, Moments


# tau of the paper: what a layer may lose before it is penalized.
TOLERANCE = 0.5


def tightness_loss(
    tape: Sequence[Interval | Moments], input_interval: Interval, *, tolerance: float = TOLERANCE
) -> Tensor:
    """Mean over layers of `relu(tolerance - t_0 / t_i) / tolerance`, with t the mean radius of input and layer i.

    Args:
        tape: pre-activation bounds of the ReLUs, in any order, or what was gathered of them.
        input_interval: what the network was given, after normalization if that is a layer of its own.
        tolerance: in (0, 1].

    Returns:
        A scalar in [0, 1]; 0 where no layer has widened the input's bounds more than `1 / tolerance` times.

    Source: equation 7.
    """
    t_0 = input_interval.radius.mean()
    widths = [layer.radius if isinstance(layer, Moments) else layer.radius.mean() for layer in _checked(tape)]
    terms = [(tolerance - t_0 / width.clamp(min=1e-12)).relu() for width in widths]
    return torch.stack(terms).mean() / tolerance


def relu_balance_loss(tape: Sequence[Interval | Moments], *, tolerance: float = TOLERANCE) -> Tensor:
    """Mean over layers of how unequal active and inactive units are, in the sum and in the spread of their centers.

    With alpha the ratio of the sums of |center| over active and inactive units, beta that of the sums of squared
    deviations from the layer's mean center, and `s(a) = min(a, 1/a)`, a layer's term is
    `(relu(tolerance - s(alpha)) + relu(tolerance - s(beta))) / tolerance`.

    Args:
        tape: as `tightness_loss` takes it.
        tolerance: in (0, 1].

    Returns:
        A scalar in [0, 2]. A layer without units of both kinds contributes 0 but is counted, as the paper has it; the
        authors' code gives 2 to a layer with inactive units only, which has no gradient either.

    Source: equation 8.
    """
    layers = [layer if isinstance(layer, Moments) else moments(layer) for layer in _checked(tape)]
    return torch.stack([_balance(layer, tolerance) for layer in layers]).mean()


def _balance(layer: Moments, tolerance: float) -> Tensor:
    sums = _closeness(layer.active, layer.inactive)
    spreads = _closeness(layer.active_squares, layer.inactive_squares)
    return ((tolerance - sums).relu() + (tolerance - spreads).relu()) / tolerance * layer.both


def moments(layer: Interval) -> Moments:
    """What the regularizers ask of pre-activation bounds; `FAST_RULES` gather the same as they go."""
    center, radius = layer.center, layer.radius
    active, inactive = (center > radius), (center < -radius)
    squares = (center - center.mean()).square()
    return Moments(
        radius=radius.mean(),
        active=(center * active).sum(),
        inactive=-(center * inactive).sum(),
        active_squares=(squares * active).sum(),
        inactive_squares=(squares * inactive).sum(),
        both=active.any() & inactive.any(),
    )


def _closeness(a: Tensor, b: Tensor) -> Tensor:
    """min(a / b, b / a) of two numbers >= 0; 1, without gradient, where there is nothing to compare."""
    larger = torch.maximum(a, b)
    # Not dividing where the larger is 0 keeps the gradient free of NaN.
    safe = torch.where(larger > 0, larger, torch.ones_like(larger))
    return torch.where(larger > 0, torch.minimum(a, b) / safe, torch.ones_like(larger))


def _checked(tape: Sequence[Interval | Moments]) -> Sequence[Interval | Moments]:
    if not tape:
        raise ValueError(
            "the tape is empty: the regularizers need a network with ReLU activations, bounded with tape=[]."
        )
    return tape
