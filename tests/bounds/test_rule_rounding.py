"""In rounding mode, bounds at a point hold the exact value: elementary functions by mpmath, sums by rationals."""

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds import Interval, propagate
from hf_warmup.bounds.box import box_of


ULP = 2.0**-53
mp = mpmath.mp


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def softplus(x: Any) -> Any:
    # As torch defines it: linear above 20.
    return x if x > 20 else mp.log1p(mp.exp(x))


# Functions of torch, and what they are.
EVERYWHERE: list[tuple[Callable[..., Any], Callable[[Any], Any]]] = [
    (torch.sigmoid, sigmoid),
    (torch.tanh, mp.tanh),
    (torch.exp, mp.exp),
    (torch.exp2, lambda x: mp.mpf(2) ** x),
    (torch.expm1, mp.expm1),
    (torch.sinh, mp.sinh),
    (torch.asinh, mp.asinh),
    (torch.atan, mp.atan),
    (torch.erf, mp.erf),
    (torch.abs, abs),
    (F.logsigmoid, lambda x: -mp.log1p(mp.exp(-x))),
    (F.softsign, lambda x: x / (1 + abs(x))),
    (F.tanhshrink, lambda x: x - mp.tanh(x)),
    (lambda x: F.elu(x, 0.7), lambda x: x if x > 0 else mp.mpf(0.7) * mp.expm1(x)),
    (lambda x: F.celu(x, 1.3), lambda x: x if x > 0 else mp.mpf(1.3) * mp.expm1(x / mp.mpf(1.3))),
    (
        F.selu,
        lambda x: (
            mp.mpf(1.0507009873554804934193349852946)
            * (x if x > 0 else mp.mpf(1.6732632423543772848170429916717) * mp.expm1(x))
        ),
    ),
    (F.softplus, softplus),
    (F.gelu, lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2),
    (F.silu, lambda x: x * sigmoid(x)),
    (F.mish, lambda x: x * mp.tanh(mp.log1p(mp.exp(x)))),
    (F.hardswish, lambda x: x * min(max(x + 3, 0), 6) / 6),
    (F.hardsigmoid, lambda x: min(max(x + 3, 0), 6) / mp.mpf(6)),
    (lambda x: x**3, lambda x: x**3),
    (lambda x: x**-2, lambda x: x**-2),
    (lambda x: 1.7**x, lambda x: mp.mpf(1.7) ** x),
    (torch.reciprocal, lambda x: 1 / x),
]
ABOVE_ZERO = [
    (torch.log, mp.log),
    (torch.log2, lambda x: mp.log(x, 2)),
    (torch.log10, mp.log10),
    (torch.log1p, mp.log1p),
    (torch.sqrt, mp.sqrt),
    (torch.rsqrt, lambda x: 1 / mp.sqrt(x)),
    (lambda x: x**0.3, lambda x: x ** mp.mpf(0.3)),
    (lambda x: x**-1.7, lambda x: x ** mp.mpf(-1.7)),
]
# Where functions turn, are joined or lose digits.
PLACES = [1e-300, 1e-16, 1e-8, 1e-3, 0.5, 1.0 - 2**-53, 1.0, 1.0 + 2**-52, 1.5, 3.0, 19.999, 20.0, 20.001, 36.9, 40.0]
PLACES += [0.7517915246935645, 1.278464542761074, 1.1924312145154955]


def at(values: Tensor) -> Interval:
    return Interval(values, values, torch.zeros_like(values), rounding=ULP)


def points(*, negative: bool) -> Tensor:
    x = torch.cat([torch.tensor(PLACES, dtype=torch.float64), 5 * torch.rand(40, dtype=torch.float64)])
    return torch.cat([x, -x]) if negative else x


@pytest.mark.parametrize("which", range(len(EVERYWHERE) + len(ABOVE_ZERO)))
def test_elementary_functions_are_within_their_bounds(which: int) -> None:
    function, exact = (EVERYWHERE + ABOVE_ZERO)[which]
    torch.manual_seed(which)
    x = points(negative=which < len(EVERYWHERE))
    with warnings.catch_warnings():
        # What overflows is not a number.
        warnings.simplefilter("ignore", RuntimeWarning)
        bounds = function(at(x))
    with mp.workdps(60):
        for value, low, high in zip(x.tolist(), bounds.lower.tolist(), bounds.upper.tolist(), strict=True):
            true = exact(mp.mpf(value))
            if math.isnan(high):
                assert true > 1e307 or value**2 == 0
                continue
            assert mp.mpf(low) <= true <= mp.mpf(high), value
            # Softplus falls at 20, where it becomes linear, so there either side is held.
            assert value == 20 or high - low <= 1e-12 * (abs(float(true)) + abs(value) + 1)


SUMS: list[Callable[[Any], Any]] = [
    lambda x: x.sum(1),
    lambda x: x.cumsum(1)[:, -1],
    lambda x: torch.einsum("bd,bd->b", x, x.flip(1)),
    lambda x: (x**2).sum(1),
    lambda x: torch.addcmul(x, x, x).mean(1),
    lambda x: F.avg_pool1d(x[:, None], 4)[:, 0, 0],
    lambda x: F.conv_transpose1d(x[:, None], W[None, None])[:, 0, 9],
    lambda x: F.interpolate(x[:, None], 36, mode="linear")[:, 0, 17],
    lambda x: x.var(1, correction=0),
]
W = torch.randn(10, dtype=torch.float64)


def exact_sum(call: Callable[[Any], Any], x: Tensor) -> list[Fraction]:
    """The same in rational arithmetic, each operation written out."""
    rows = [[Fraction(v) for v in row] for row in x.tolist()]
    weights = [Fraction(v) for v in W.tolist()]
    mean = [sum(row) / len(row) for row in rows]
    return {
        0: mean and [sum(row) for row in rows],
        1: [sum(row) for row in rows],
        2: [sum(a * b for a, b in zip(row, reversed(row), strict=True)) for row in rows],
        3: [sum(a * a for a in row) for row in rows],
        4: [sum(a + a * a for a in row) / len(row) for row in rows],
        5: [sum(row[:4]) / 4 for row in rows],
        6: [sum(row[i] * weights[9 - i] for i in range(10)) for row in rows],
        # Of 12 places 36: the 18th is at (17 + 1/2) / 3 - 1/2 = 16/3.
        7: [row[5] * Fraction(2, 3) + row[6] * Fraction(1, 3) for row in rows],
        8: [sum((a - m) ** 2 for a in row) / len(row) for row, m in zip(rows, mean, strict=True)],
    }[SUMS.index(call)]


@pytest.mark.parametrize("call", SUMS)
def test_sums_are_within_their_bounds(call: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    # Terms of very different sizes, which cancel.
    x = torch.randn(50, 12, dtype=torch.float64) * 10.0 ** torch.randint(-6, 7, (50, 12))
    bounds = call(at(x))
    assert bounds.radius.max() > 0
    for true, low, high in zip(exact_sum(call, x), bounds.lower.tolist(), bounds.upper.tolist(), strict=True):
        assert Fraction(low) <= true <= Fraction(high)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, math.inf])
def test_norms_and_normalized_vectors_are_within_their_bounds(p: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 7, dtype=torch.float64) * 10.0 ** torch.randint(-9, 9, (30, 7))
    norm, normalized, root = at(x).norm(p, 1), F.normalize(at(x), p, 1), F.rms_norm(at(x), (7,), None, 1e-5)
    with mp.workdps(60):
        for i, row in enumerate(x.tolist()):
            exact = [mp.mpf(v) for v in row]
            true = (
                max(map(abs, exact)) if p == math.inf else sum(abs(v) ** mp.mpf(p) for v in exact) ** (1 / mp.mpf(p))
            )
            assert norm.lower[i].item() <= true <= norm.upper[i].item()
            mean_square = sum(v * v for v in exact) / 7
            for j, v in enumerate(exact):
                assert normalized.lower[i, j].item() <= v / true <= normalized.upper[i, j].item()
                rms = v / mp.sqrt(mean_square + mp.mpf(1e-5))
                assert root.lower[i, j].item() <= rms <= root.upper[i, j].item()


def test_logarithms_of_shares_hold_however_far_apart_scores_are() -> None:
    for dtype, scale in ((torch.float32, 300.0), (torch.float64, 3000.0)):
        x = torch.tensor([[0.0, scale, -scale], [1.0, 2.0, 3.0]], dtype=dtype)
        box = Interval(x, x, torch.full_like(x, 5.0), rounding=torch.finfo(dtype).eps / 2)
        bounds = F.log_softmax(box, -1)
        assert not bounds.lower.isnan().any()
        assert not bounds.upper.isnan().any()
        for _ in range(50):
            value = F.log_softmax((x + 10 * torch.rand(2, 3, dtype=dtype) - 5).double(), -1)
            assert (bounds.lower <= value).all()
            assert (value <= bounds.upper).all()
        assert (bounds.upper - bounds.lower).max() < 25


def test_units_that_are_off_leave_room_above_subnormal_numbers() -> None:
    """Processors compute with those many times slower, and weights below 1 make them of the smallest normal ones."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU()]
    for _ in range(6):
        layers += [torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU()]
    layers += [torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4)]
    seen: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            # Small weights, and all units are off for sure.
            torch.nn.init.uniform_(layer.weight, -1e-3, 1e-3)
            torch.nn.init.constant_(layer.bias, -1.0)
        layer.register_forward_hook(lambda _, __, found: seen.extend((found.center, found.radius, found.upper)))
    model = torch.nn.Sequential(*layers).double().eval()
    images = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        propagate(model, box_of(images, 0.1).interval(rounding=ULP))
    assert len(seen) == 3 * len(layers)
    for found in seen:
        size = found.abs()
        assert not bool(((size > 0) & (size < 1e-290)).any())
