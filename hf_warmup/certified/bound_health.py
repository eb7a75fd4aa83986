"""How bounds fare from ReLU to ReLU: their width, its growth, and which units they pin down."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval, input_interval, propagate
from hf_warmup.certified.objectives import network_input


logger = logging.getLogger(__name__)

# Bounds this many times as wide as the clean values are spread say nothing any more.
EXPLODED = 1e3


@dataclass(frozen=True)
class LayerHealth:
    """Pre-activation bounds of one ReLU, over a batch.

    Attributes:
        width: mean radius.
        gain: width over that of the ReLU before it, or of the network's input.
        relative_width: width over the standard deviation of the clean values.
        active, inactive, unstable: shares of units whose bounds are above 0, below 0, or contain it.
    """

    width: float
    gain: float
    relative_width: float
    active: float
    inactive: float
    unstable: float


@torch.no_grad()
def bound_health(model: nn.Module, pixel_values: Tensor, eps: float) -> list[LayerHealth]:
    """Health of each ReLU's bounds, in the order in which the model uses them.

    Args:
        model: as it is; in training mode its running statistics move.
        pixel_values: (B, C, H, W) in [0, 1].
        eps: radius, > 0.
    """
    tape: list[Interval] = []
    box = input_interval(pixel_values, eps, tape=tape)
    propagate(model, box)
    layers, before = [], float(network_input(model, box).radius.mean())
    for layer in tape:
        width = float(layer.radius.mean())
        active = float((layer.center > layer.radius).float().mean())
        inactive = float((layer.center < -layer.radius).float().mean())
        spread = float(layer.clean.float().std()) or math.inf
        gain = width / before if before else math.nan
        layers.append(LayerHealth(width, gain, width / spread, active, inactive, 1.0 - active - inactive))
        before = width
    return layers


def warn_of_explosion(layers: Sequence[LayerHealth]) -> bool:
    """Log a warning, and return True, if some layer's bounds have become meaningless."""
    for index, layer in enumerate(layers):
        if not math.isfinite(layer.width) or layer.relative_width > EXPLODED:
            logger.warning(
                "bounds explode: at ReLU %d of %d they are %.3g times as wide as the clean values are "
                "spread (gain %.3g over the ReLU before). Ramp more slowly, or use IBP initialization "
                "and the regularizers.",
                index + 1,
                len(layers),
                layer.relative_width,
                layer.gain,
            )
            return True
    return False
