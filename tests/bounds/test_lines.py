"""Lines of activations: below and above the function, as near to it as any line, in exact arithmetic with rounding."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, input_interval, propagate
from hf_warmup.bounds.linear import LINEAR_RULES, lower_bounds, refiner, relaxations, with_steps
from hf_warmup.bounds.linear import between as between_module
from hf_warmup.bounds.linear.affine import affine, batch_norm
from hf_warmup.bounds.linear.backward import Backward, LinearRule
from hf_warmup.bounds.linear.s_shaped import sigmoid, tanh
from hf_warmup.bounds.provenance import Step


DOUBLE = {"dtype": torch.float64}
UNIT = 2.0**-53
mp = mpmath.mp
SCALES = (1e-9, 1e-5, 1e-3, 0.1, 1.0, 5.0, 40.0, 600.0)
S_SHAPED = [(sigmoid, torch.sigmoid), (tanh, torch.tanh)]


def boxes(count: int, *, rounding: float = 0.0) -> Interval:
    """Intervals of every scale about 0 and beside it, among them some of no width."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(SCALES), count)
    scale = torch.tensor(SCALES, **DOUBLE)[:, None]
    center = torch.randn(shape, generator=generator, **DOUBLE) * scale
    radius = (
        torch.rand(shape, generator=generator, **DOUBLE)
        * scale
        * torch.tensor([1.0, 2.0, 1e-9, 0.0]).repeat(count // 4)
    )
    return Interval(center, center, radius, rounding=rounding)


def at_places(x: Interval, places: int) -> Tensor:
    return x.lower + (x.upper - x.lower) * torch.linspace(0, 1, places, **DOUBLE).view(-1, 1, 1)


@pytest.mark.parametrize(("relaxation", "function"), S_SHAPED)
def test_s_shaped_lines_touch_the_hull_in_the_middle(relaxation: Any, function: Callable[[Tensor], Tensor]) -> None:
    x = boxes(200)
    lines, points = relaxation(x), at_places(x, 101)
    values = function(points)
    assert bool((lines.lower_slope * points + lines.lower_intercept <= values + 1e-14).all())
    assert bool((lines.upper_slope * points + lines.upper_intercept >= values - 1e-14).all())
    # Of all chords across the middle, the lowest there is the convex hull and the highest the concave one.
    middle, left, right = points[50], points[:51, None], points[None, 50:]
    weight = (middle - left) / (right - left).clamp(min=1e-300)
    chords = values[:51, None] * (1 - weight) + values[None, 50:] * weight
    hulls = chords.flatten(0, 1).amin(0), chords.flatten(0, 1).amax(0)
    lows = lines.lower_slope * middle + lines.lower_intercept, lines.upper_slope * middle + lines.upper_intercept
    grid = 3e-3 * (values[-1] - values[0]) + 1e-12
    fine = torch.tensor(SCALES) < 40
    for line, hull in zip(lows, hulls, strict=True):
        assert bool(((line - hull).abs() <= grid)[fine].all())


EXACT: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "sigmoid": (sigmoid, lambda v: 1 / (1 + mp.exp(-v))),
    "tanh": (tanh, mp.tanh),
    "relu": (relaxations.relu, lambda v: max(v, mp.mpf(0))),
    "leaky_relu": (lambda x: relaxations.leaky_relu(x, 0.3), lambda v: v if v > 0 else mp.mpf(0.3) * v),
    "hardtanh": (relaxations.clamped, lambda v: min(max(v, mp.mpf(-1)), mp.mpf(1))),
}


@pytest.mark.parametrize("name", EXACT)
def test_lines_hold_in_exact_arithmetic(name: str) -> None:
    """Also where both lines come out equal although the function is no line, as on intervals of no width."""
    relaxation, exact = EXACT[name]
    x = boxes(20, rounding=UNIT)
    lines = relaxation(x)
    fields = (lines.lower_slope, lines.lower_intercept, lines.upper_slope, lines.upper_intercept)
    with mp.workdps(60):
        for point in at_places(x, 3):
            for value, *line in zip(point.flatten().tolist(), *(f.flatten().tolist() for f in fields), strict=True):
                v = mp.mpf(value)
                low, high = (mp.mpf(line[i]) * v + mp.mpf(line[i + 1]) for i in (0, 2))
                assert low <= exact(v) <= high, value


def test_a_line_follows_the_ends_as_its_gradient_says() -> None:
    lower, upper = (torch.tensor(ends, **DOUBLE) for ends in ([-4.0, -0.5, -0.2, 0.3], [1.0, 3.0, 0.3, 1.0]))

    def of_ends(lower: Tensor, upper: Tensor) -> Tensor:
        x = Interval(lower, (lower + upper) / 2, (upper - lower) / 2)
        lines = sigmoid(x)
        return torch.stack([lines.lower_slope, lines.lower_intercept, lines.upper_slope, lines.upper_intercept])

    assert torch.autograd.gradcheck(of_ends, (lower.requires_grad_(), upper.requires_grad_()))


@pytest.mark.parametrize("block", [1, 9, 10**6])
@pytest.mark.parametrize("each", [False, True])
def test_rows_between_lines_and_their_gradient(block: int, each: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(between_module, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 2, 1, 2, 2, generator=generator, **DOUBLE).permute(0, 1, 4, 2, 3)
    shape = rows.shape[1:]
    lines = [torch.randn(shape, generator=generator, **DOUBLE) for _ in range(4)]
    if each:
        lines[0] = torch.randn(rows.shape, generator=generator, **DOUBLE)
    found = between_module.between(rows, *lines)
    above, below = rows.clamp(min=0), rows.clamp(max=0)
    assert torch.allclose(found[0], above * lines[0] + below * lines[2], rtol=1e-13)
    assert torch.allclose(found[1], (above * lines[1] + below * lines[3]).flatten(2).sum(2), rtol=1e-12)
    leaves: list[Tensor | None] = [part.clone().requires_grad_() for part in (rows, *lines)]
    assert torch.autograd.gradcheck(between_module.between, leaves)
    leaves[2] = None
    assert torch.autograd.gradcheck(between_module.between, leaves)
    through_zero = between_module.between(rows, lines[0], None, *lines[2:])
    lines[1] = torch.zeros(shape, **DOUBLE)
    for one, other in zip(through_zero, between_module.between(rows, *lines), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("training", [False, True])
def test_a_normalization_goes_back_with_the_convolution_before_it(training: bool) -> None:
    """As by two steps, also where the convolution's result goes another way as well."""
    generator = torch.Generator().manual_seed(0)
    weight, of_channel = torch.randn(4, 2, 3, 3, generator=generator, **DOUBLE), torch.rand(5, 4, **DOUBLE)
    x = torch.rand(3, 2, 5, 5, generator=generator, **DOUBLE)
    rows = torch.randn(6, 3, 4, 3, 3, generator=generator, **DOUBLE)
    for bias in (None, of_channel[0]):
        convolved = F.conv2d(with_steps(input_interval(x, 0.1)), weight, bias, stride=2, padding=1)
        normal = F.batch_norm(convolved, *of_channel[1:], training=training)
        by_gradient = {**LINEAR_RULES, F.conv2d: affine}
        for result in (normal, normal - 0.5 * convolved):
            found, expected = (
                lower_bounds(result, rows, rules=rules)
                for rules in (LINEAR_RULES, {**by_gradient, F.batch_norm: apart})
            )
            assert torch.allclose(found, expected, rtol=1e-12)


def apart(step: Step, result: Interval, rows: Tensor) -> Backward | None:
    """The rule of a normalization whose operand does not say what it came from."""
    x = step.operands()[0]
    found = batch_norm(replace(step, args=(replace(x, step=None), *step.args[1:])), result, rows)
    assert found is not None
    return replace(found, operands=[(x, found.operands[0][1])])


@pytest.mark.parametrize("name", ["flatten", "permute", "roll", "expand", "repeat"])
def test_moving_numbers_costs_no_rounding_and_adding_them_does(name: str) -> None:
    move: dict[str, Callable[[Any], Any]] = {
        "flatten": lambda x: x.flatten(1),
        "permute": lambda x: x.permute(0, 2, 1),
        "roll": lambda x: x.roll(1, 2),
        "expand": lambda x: x[:, :, None].expand(-1, -1, 5, -1),
        "repeat": lambda x: x.repeat(1, 2, 3),
    }
    x = with_steps(input_interval(torch.rand(2, 3, 4, **DOUBLE), 0.1, rounding=UNIT))
    with torch.no_grad():
        result = move[name](x)
        rows = torch.randn(3, *result.shape, **DOUBLE)
        found = LINEAR_RULES[result.step.func](result.step, result, rows)
    assert found is not None
    assert (found.slack is None) == (name not in ("expand", "repeat"))
    assert not found.constant.any()


def test_no_tensor_of_coefficients_is_larger_than_the_budget() -> None:
    """Rows of a narrow layer grow on their way to wider ones before it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 200), nn.ReLU(), nn.Linear(200, 30), nn.ReLU(), nn.Linear(30, 3)).double()
    sizes = []

    def measured(rule: LinearRule) -> LinearRule:
        def wrapped(step: Step, result: Interval, rows: Tensor) -> Backward | None:
            sizes.append(rows.numel())
            return rule(step, result, rows)

        return wrapped

    rules = {func: measured(rule) for func, rule in LINEAR_RULES.items()}
    with torch.no_grad():
        box = input_interval(torch.rand(2, 6, **DOUBLE), 0.2)
        propagate(net, with_steps(box, refine=refiner(rules, budget=4000)))
    assert 1000 < max(sizes) <= 4000


LARGEST = torch.finfo(torch.float64).max
WIDE = [
    (-0.6 * LARGEST, 0.6 * LARGEST),
    (-LARGEST, 1.0),
    (-1.0, LARGEST),
    (-0.9 * LARGEST, 0.1 * LARGEST),
    (0.5 * LARGEST, 0.9 * LARGEST),
    (-5e-324, LARGEST),
]


@pytest.mark.parametrize("ends", WIDE)
@pytest.mark.parametrize(
    ("relaxation", "function"),
    [
        (relaxations.relu, torch.relu),
        (lambda x: relaxations.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.1)),
        (relaxations.clamped, F.hardtanh),
        (relaxations.relu6, F.relu6),
        *S_SHAPED,
    ],
)
def test_lines_hold_where_the_width_of_an_interval_overflows(
    relaxation: Any, function: Callable[[Tensor], Tensor], ends: tuple[float, float]
) -> None:
    """A line of NaN or infinity proves nothing, and is allowed."""
    lower, upper = (torch.tensor([[end]], **DOUBLE) for end in ends)
    x = Interval(lower / 2 + upper / 2, lower / 2 + upper / 2, upper / 2 - lower / 2, rounding=UNIT)
    lines = relaxation(x)
    below = torch.zeros_like(lower) if lines.lower_intercept is None else lines.lower_intercept
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        point = (x.lower * (1 - share) + x.upper * share).clamp(x.lower, x.upper)
        assert not lines.lower_slope * point + below > function(point)
        assert not lines.upper_slope * point + lines.upper_intercept < function(point)
