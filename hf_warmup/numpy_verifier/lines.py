"""CROWN-IBP, CROWN and stored slopes of alpha-CROWN for the plain chains, with NumPy alone.

A row is a set of coefficients A of a layer's outputs y. Walking back, `A y >= C h + const` for an affine layer
`y = W h + b`, and `A h >= C y + const` for a ReLU `h`, by a line below it where A is positive and by its chord above
where A is negative. A walk ends at the normalized image, where the least value over the box is taken. Every step pays
at once for its own roundings and for those of the merged weights: the computed A W errs by at most gamma |A| |W|,
which moves the sum by no more than gamma |A| (|W| M), M being the greatest absolute values of h. So each number that
is returned is a lower bound in exact arithmetic, whatever the order of summation.

Sources: Zhang et al., CROWN, arXiv 1811.00866; Zhang et al., CROWN-IBP, arXiv 1906.06316; Xu et al., alpha-CROWN,
arXiv 2011.13824: any slope in [0, 1] below an undecided ReLU is valid, so a proof is its slopes.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier import network as bounds
    from hf_warmup.numpy_verifier.network import UNIT, Array, Box, Layer, Network
else:  # Beside a file that is run by its path.
    import network as bounds  # type: ignore[import-not-found,no-redef]
    from network import UNIT, Array, Box, Layer, Network  # type: ignore[no-redef]


# Sums of up to 2^23 positive terms are computed to this factor.
_SURELY = 1.0 + 2.0**-28
# Doubles in the largest array of coefficients: 64 MB.
_LARGEST = 2**23
# The stages that walk, and whether each inner layer is bounded by walks of its own.
STAGES = {"crown-ibp": False, "crown": True, "alpha-crown": True}

# Of one rival, each ReLU's slopes below, in the order of layers.
Slopes = list[Array]


class _Walker:
    """One image: the ends of every layer's outputs so far, from which rows go back to the image."""

    def __init__(self, image: Box) -> None:
        self.image = image
        self.layers: list[Layer] = []
        self.lower: list[Array] = []
        self.upper: list[Array] = []

    def learn(self, layer: Layer, lower: Array, upper: Array) -> None:
        """Go one layer further, whose outputs (before their ReLU) lie between two arrays."""
        known = ~(np.isnan(lower) | np.isnan(upper))
        self.layers.append(layer)
        # What overflowed may be anything.
        self.lower.append(np.where(known, lower, -np.inf))
        self.upper.append(np.where(known, upper, np.inf))

    def inputs(self, index: int) -> Array:
        """The greatest absolute values of what layer `index` takes."""
        if index == 0:
            size = np.abs(self.image.center) + self.image.radius + self.image.error
            return np.asarray(size[0] * _SURELY)
        return np.maximum(self.upper[index - 1], 0.0)

    def least(self, rows: Array, layer: Layer, slopes: Slopes | None = None) -> Array:
        """Lower bounds of `rows`, (S, *outputs), times a next layer's outputs, (S,)."""
        constant, absolute, slack = (np.zeros(len(rows)) for _ in range(3))
        for index in range(len(self.layers), -1, -1):
            layer = layer if index == len(self.layers) else self.layers[index]
            inputs = self.inputs(index)
            bias, bias_error = (_channels(part, rows.ndim) for part in (layer.bias, layer.bias_error))
            reach = bounds.product(inputs[None], np.abs(layer.weight), layer.stride)[0] + np.abs(bias)
            terms = layer.weight.size // min(layer.weight.shape[:2]) + inputs.size + reach.size + 24
            slack += _weighted(np.abs(rows), bounds.gamma(terms) * reach * _SURELY + bias_error)
            moved = _weighted(rows, bias)
            constant, absolute = constant + moved, absolute + np.abs(moved)
            rows = _adjoint(rows, layer, inputs.shape)
            if index == 0:
                break
            rows, moved, lost = self._relu(rows, index - 1, None if slopes is None else slopes[index - 1])
            constant, absolute, slack = constant + moved, absolute + np.abs(moved), slack + lost
        center, radius = self.image.center[0], (self.image.radius + self.image.error)[0] * (1 + 4 * UNIT)
        moved = _weighted(rows, center) - _weighted(np.abs(rows), radius)
        slack += bounds.gamma(center.size + 8) * _weighted(np.abs(rows), np.abs(center) + radius)
        absolute = absolute + _weighted(np.abs(rows), np.abs(center) + radius)
        lost = (slack + bounds.gamma(4 * len(self.layers) + 16) * absolute) * _SURELY + 2.0**-800
        return np.asarray(np.nextafter(constant + moved - lost, -np.inf))

    def _relu(self, rows: Array, index: int, stored: Array | None) -> tuple[Array, Array, Array]:
        """Rows of a ReLU's outputs as rows of its inputs; what is added, and what rounding may have taken."""
        lower, upper = self.lower[index], self.upper[index]
        crossing = (lower < 0) & (upper > 0)
        width = np.where(crossing, upper - lower, 1.0)
        chord = np.where(crossing, upper / width, (lower >= 0).astype(np.float64))
        # Convex below its chord at both ends; what computing them may have lost lifts it.
        intercept = np.maximum(-chord * lower, upper - chord * upper)
        intercept += 8 * UNIT * (np.abs(lower) + np.abs(upper)) + 2.0**-900
        intercept = np.where(crossing, intercept, 0.0)
        below = np.where(crossing, (chord > 0.5) if stored is None else stored, chord)
        found = rows * np.where(rows > 0, below, chord)
        size = np.maximum(np.abs(lower), np.abs(upper))
        down = np.minimum(rows, 0.0)
        moved = _weighted(down, intercept)
        return found, moved, bounds.gamma(lower.size + 8) * _weighted(np.abs(rows), size + intercept)


def margins(
    network: Network,
    images: Array,
    labels: NDArray[np.int64],
    eps: float,
    stage: str,
    slopes: Mapping[int, Mapping[int, Slopes]] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Array:
    """Lower bounds of the label's lead over the rival that it is proven worst against, (N,); NaN proves nothing.

    Args:
        network: from `read_network`.
        images: pixels in [0, 1], (N, C, H, W).
        labels: class numbers, (N,).
        eps: radius.
        stage: of `STAGES`.
        slopes: by image and rival; others take the adaptive ones of CROWN.
        tell: told of images done and images to do.
    """
    found = []
    with np.errstate(all="ignore"):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            stored = (slopes or {}).get(index, {})
            found.append(_leads(network, image[None], int(label), eps, stage, stored).min())
            if tell is not None:
                tell(index + 1, len(images))
    return np.array(found)


def shapes_of(network: Network) -> list[tuple[int, ...]]:
    """The outputs of every layer but the last, one by one."""
    found: list[tuple[int, ...]] = []
    inputs = np.zeros((1, *network.shape))
    for layer in network.layers[:-1]:
        inputs = bounds.product(inputs, layer.weight, layer.stride)
        found.append(inputs.shape[1:])
    return found


def _leads(network: Network, image: Array, label: int, eps: float, stage: str, slopes: Mapping[int, Slopes]) -> Array:
    """The label's lead over every rival, in ascending order of them."""
    box = bounds.image_box(network, image, np.array([eps]))
    walker = _Walker(box)
    for index, layer in enumerate(network.layers[:-1]):
        lower, upper = _ends(bounds.affine(layer, box))
        # Intervals lose nothing in a first layer.
        if STAGES[stage] and index:
            lower, upper = _narrowed(walker, layer, lower, upper)
        walker.learn(layer, lower, upper)
        box = bounds.relu(bounds.between(lower[None], upper[None], np.zeros_like(lower)[None]))
    lead = bounds.lead_layer(network.layers[-1], label)
    by_intervals = _ends(bounds.affine(lead, box))[0]
    rivals = [rival for rival in range(len(network.layers[-1].bias)) if rival != label]
    by_lines = walker.least(np.eye(len(rivals)), lead)
    for row, rival in enumerate(rivals):
        if rival in slopes:
            found = walker.least(np.eye(len(rivals))[row : row + 1], lead, slopes[rival])
            by_lines[row] = np.fmax(by_lines[row], found[0])
    # What is no number takes nothing from the other.
    return np.fmax(by_lines, by_intervals)


def _narrowed(walker: _Walker, layer: Layer, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The ends of a layer's outputs, those of undecided units narrowed by walks of their own."""
    units = np.flatnonzero((lower < 0) & (upper > 0))
    widest = max(lower.size, *(part.size for part in walker.lower), walker.image.center.size)
    size = max(1, _LARGEST // (2 * widest))
    low, high = lower.flatten(), upper.flatten()
    for start in range(0, len(units), size):
        some = units[start : start + size]
        rows = np.zeros((2 * len(some), lower.size))
        rows[np.arange(len(some)), some] = 1.0
        rows[len(some) + np.arange(len(some)), some] = -1.0
        found = walker.least(rows.reshape(-1, *lower.shape), layer)
        low[some] = np.fmax(low[some], found[: len(some)])
        high[some] = np.fmin(high[some], -found[len(some) :])
    return low.reshape(lower.shape), high.reshape(upper.shape)


def _ends(box: Box) -> tuple[Array, Array]:
    """Ends, rounded outwards, of the only box in a batch."""
    error = (box.error + 2 * UNIT * (np.abs(box.center) + box.radius)) * (1 + 4 * UNIT)
    lower = np.nextafter(box.center - box.radius - error, -np.inf)
    return lower[0], np.nextafter(box.center + box.radius + error, np.inf)[0]


def _channels(vector: Array, dimensions: int) -> Array:
    """One number a channel, for arrays (S, O, ...) of so many dimensions, without S."""
    return vector.reshape(-1, *[1] * (dimensions - 2))


def _weighted(rows: Array, values: Array) -> Array:
    """Sums over all but the first dimension."""
    values = np.broadcast_to(values, rows.shape[1:])
    return np.asarray(rows.reshape(len(rows), -1) @ values.reshape(-1))


def _adjoint(rows: Array, layer: Layer, shape: tuple[int, ...]) -> Array:
    """Rows of a layer's outputs as rows of its inputs, (S, *shape)."""
    if layer.weight.ndim == 2:
        return (rows @ layer.weight).reshape(-1, *shape)
    kernel, stride = layer.weight.shape[-1], layer.stride
    pad = kernel // 2
    channels, height, width = shape
    spread = np.zeros((len(rows), height + 2 * pad, width + 2 * pad, channels))
    for down in range(kernel):
        for right in range(kernel):
            part = np.tensordot(rows, layer.weight[:, :, down, right], ([1], [0]))
            high, wide = part.shape[1:3]
            spread[:, down : down + stride * high : stride, right : right + stride * wide : stride] += part
    return np.asarray(spread[:, pad : pad + height, pad : pad + width].transpose(0, 3, 1, 2))
