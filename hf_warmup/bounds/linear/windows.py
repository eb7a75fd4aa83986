"""Units of a convolution's maps bounded by the windows that they see, in place of whole maps.

A row that begins at one unit meets, behind a few convolutions, only a window of each map. So the walk back is made on
the windows of many places at once, each place an image of its own: as much work as the windows are large. What leaves
a map at its border meets the zeros of a convolution's padding, and rows there become exactly 0.

The rules are those of `lower_bounds`, and so is the result, but for rounding. Layers whose outputs are no maps, and
operations that see more than a window, have none here. Shape letters: N places, S rows a place, h and w of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, copied
from hf_warmup.bounds.linear.affine import SEPARATE, argument, pair
from hf_warmup.bounds.linear.backward import Backward, LinearRules, lower_bounds
from hf_warmup.bounds.provenance import Step, parts, replaced
from hf_warmup.bounds.rules.spelling import spelled


_CONVOLUTIONS = frozenset([F.conv2d, torch.conv2d])
# What is off where its input is negative, exactly.
_RECTIFIERS: frozenset[Callable[..., Any]] = frozenset([F.relu, torch.relu, Tensor.relu])
# Operations whose elements each come from the elements of the same place.
_PLACEWISE: frozenset[Callable[..., Any]] = frozenset(
    [
        *_RECTIFIERS,
        *(F.leaky_relu, F.hardtanh, F.relu6, torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh, F.batch_norm),
        *(Tensor.__add__, Tensor.__radd__, Tensor.__sub__, Tensor.__mul__, Tensor.__rmul__, Tensor.__truediv__),
        *spelled("add", "sub", "mul", "div", "clone"),
    ]
)
# Windows must be smaller than maps by so much, as they are gathered first.
_WORTH = 0.7


@dataclass(frozen=True)
class _Window:
    """Of a unit at (i, j) the rows from `stride * i + top` on, and the columns likewise."""

    stride: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    def around(self, other: _Window) -> _Window:
        """The least window that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(self.top + self.height, other.top + other.height)
        right = max(self.left + self.width, other.left + other.width)
        return _Window(self.stride, top, left, bottom - top, right - left)

    def behind(self, step: Step) -> _Window:
        """What a convolution takes to make this window."""
        stride, pad, gap = (pair(argument(step, place, name, usual)) for place, name, usual in _SETTINGS)
        kernel = argument(step, 1, "weight").shape[2:]
        height, width = (
            (size - 1) * by + wide * (side - 1) + 1
            for size, by, wide, side in zip((self.height, self.width), stride, gap, kernel, strict=True)
        )
        strides = self.stride[0] * stride[0], self.stride[1] * stride[1]
        return _Window(strides, self.top * stride[0] - pad[0], self.left * stride[1] - pad[1], height, width)


_SETTINGS = ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))


def window_ends(x: Interval, chosen: Tensor, rules: LinearRules, budget: int) -> tuple[Tensor, Tensor] | None:
    """Bounds of the chosen units, and what intervals say of the others; None where windows gain nothing.

    Args:
        x: maps, (B, C, H, W), with a `step`.
        chosen: (B, C, H, W), bool.
        rules: as `lower_bounds`.
        budget: numbers in the largest tensor of coefficients at once.

    Returns:
        Lower and upper, of x's shape.
    """
    windows = _windows(x)
    if windows is None:
        return None
    lower, upper = x.lower.clone(), x.upper.clone()
    image, down, right = chosen.any(1).nonzero(as_tuple=True)
    # Places with as many units as others go together.
    counts = chosen.sum(1)[image, down, right]
    order = counts.argsort(descending=True, stable=True)
    sizes = [one.shape[1] * window.height * window.width for one, window in windows.values()]
    rules, cut = {**rules, _portion: _portion_back}, _Cut(windows)
    while len(order):
        units = int(counts[order[0]])
        # A cut holds three numbers of each element, and lines of activations as many.
        few = max(1, budget // max(2 * units * max(sizes), 6 * sum(sizes)))
        some, order = order[:few], order[few:]
        places = image[some], down[some], right[some]
        target = cut.of(x, places)
        channels = chosen[places[0], :, places[1], places[2]].to(torch.uint8)
        channels = channels.argsort(dim=1, descending=True, stable=True)[:, :units]
        for part in torch.split(channels, max(1, budget // (2 * len(some) * max(sizes))), dim=1):
            found = lower_bounds(target, _unit_rows(target, part), rules=rules)
            at = places[0][:, None], part, places[1][:, None], places[2][:, None]
            # Rows that a place has only because others have more units say nothing, so that grouping changes nothing.
            least, most = found[: part.shape[1]].T, -found[part.shape[1] :].T
            lower[at] = torch.where(chosen[at], torch.maximum(lower[at], least), lower[at])
            upper[at] = torch.where(chosen[at], torch.minimum(upper[at], most), upper[at])
    return lower, upper


def _unit_rows(target: Interval, channels: Tensor) -> Tensor:
    """Rows of the only element of some channels, (N, U), and the same with the other sign, (2U, N, C, 1, 1)."""
    places, units = channels.shape
    rows = torch.zeros(2 * units, places, target.shape[1], dtype=target.dtype, device=target.device)
    rows[:units].scatter_(2, channels.T[:, :, None], 1.0)
    rows[units:].scatter_(2, channels.T[:, :, None], -1.0)
    return rows[..., None, None]


def _windows(x: Interval) -> dict[int, tuple[Interval, _Window]] | None:
    """Of every interval on the way back to the input the window that a unit of x sees; None where that is no use."""
    found: dict[int, tuple[Interval, _Window]] = {}
    pending = {id(x): (x, _Window((1, 1), 0, 0, 1, 1))}
    while pending:
        key = max(pending, key=lambda each: _depth(pending[each][0]))
        one, window = found[key] = pending.pop(key)
        if one.dim() != 4:
            return None
        step = one.step
        if step is None or step.func is None:
            continue
        if step.func in _CONVOLUTIONS:
            if isinstance(argument(step, 4, "padding", 0), str) or len(step.operands()) != 1:
                return None
            window = window.behind(step)
        elif step.func not in _PLACEWISE or not _is_placewise(step, one):
            return None
        for operand in step.operands():
            before = pending.get(id(operand))
            if before is not None and before[1].stride != window.stride:
                return None
            pending[id(operand)] = operand, window if before is None else window.around(before[1])
    cut = sum(one.shape[1] * window.height * window.width for one, window in found.values())
    return found if cut < _WORTH * sum(one.center[0].numel() for one, _ in found.values()) else None


def _is_placewise(step: Step, result: Interval) -> bool:
    """Whether all that it takes is the same at every place, or an interval of the result's shape."""
    if step.func is F.batch_norm and (
        argument(step, 5, "training", False) or argument(step, 1, "running_mean") is None
    ):
        return False
    channels = result.shape[1]
    for part in parts((*step.args, *step.kwargs.values())):
        if isinstance(part, Interval):
            if part.shape != result.shape:
                return False
        elif isinstance(part, Tensor) and step.func is not F.batch_norm:
            shape = (1,) * (4 - part.dim()) + tuple(part.shape)
            if part.dim() > 4 or shape[0] != 1 or shape[1] not in (1, channels) or shape[2:] != (1, 1):
                return False
    return True


class _Cut:
    """The intervals behind a layer, cut into windows; see `of`."""

    def __init__(self, windows: dict[int, tuple[Interval, _Window]]) -> None:
        # Operands first.
        self.windows = dict(sorted(windows.items(), key=lambda each: _depth(each[1][0])))
        # Channels last: a place's numbers lie beside each other.
        self.maps = {
            key: [
                None if part is None else part.permute(0, 2, 3, 1).contiguous()
                for part in (one.center, one.radius, one.magnitude)
            ]
            for key, (one, _) in self.windows.items()
        }

    def of(self, x: Interval, places: tuple[Tensor, Tensor, Tensor]) -> Interval:
        """The cut of x at places, (N,) each: image, row and column. Its steps lead to the cuts of what x was made of.

        Beyond the border of a map a rectifier gives 0, as padding does, and all else is -1, where a rectifier is off.
        So rows there become 0 behind a rectifier; of what else a convolution takes, `_portion` makes them 0.
        """
        cuts: dict[int, Interval] = {}
        insides: dict[int, Tensor] = {}
        for key, (one, window) in self.windows.items():
            index, insides[key] = self._index(one, window, places)
            center, radius, magnitude = (
                None if part is None else part[index].permute(0, 3, 1, 2) for part in self.maps[key]
            )
            assert center is not None
            assert radius is not None
            if not bool(insides[key].all()):
                center = torch.where(insides[key], center, 0.0 if _is_rectified(one) else -1.0)
                radius = torch.where(insides[key], radius, 0.0)
            step = Step() if one.step is None else self._step(one.step, window, cuts, insides)
            ends = {"clean": center, "center": center, "radius": radius, "magnitude": magnitude}
            cuts[key] = copied(one, **ends, step=step)
        return cuts[id(x)]

    def _index(
        self, one: Interval, window: _Window, places: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Where in a map the elements of windows are, and whether they are in it at all, (N, 1, h, w)."""
        image, *starts = places
        sides, inside = [], []
        for start, by, first, length, size in zip(
            starts,
            window.stride,
            (window.top, window.left),
            (window.height, window.width),
            one.shape[2:],
            strict=True,
        ):
            side = start[:, None] * by + first + torch.arange(length, device=start.device)
            inside.append((side >= 0) & (side < size))
            sides.append(side.clamp(0, size - 1))
        mask = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        return (image[:, None, None], sides[0][:, :, None], sides[1][:, None, :]), mask

    def _step(self, step: Step, window: _Window, cuts: dict[int, Interval], insides: dict[int, Tensor]) -> Step:
        """The step of a cut, on cuts."""
        if step.func is None:
            return Step()
        convolves = step.func in _CONVOLUTIONS
        taken = window.behind(step) if convolves else window

        def cut(y: Interval) -> Interval:
            whole, inside = self.windows[id(y)][1], insides[id(y)]
            kept = convolves and not _is_rectified(y) and not bool(inside.all())
            if whole == taken and not kept:
                return cuts[id(y)]
            return _portion(
                cuts[id(y)], taken.top - whole.top, taken.left - whole.left, taken, inside if kept else None
            )

        args, kwargs = replaced(step.args, cut), replaced(step.kwargs, cut)
        if convolves:
            usual = ((2, "bias", None), (3, "stride", 1), (5, "dilation", 1), (6, "groups", 1))
            bias, stride, gap, groups = (argument(step, place, name, value) for place, name, value in usual)
            x = args[0] if args else kwargs["input"]
            args, kwargs = (x, argument(step, 1, "weight"), bias, stride, 0, gap, groups), {}
        found = Step(step.func, args, kwargs, 2 * step.depth)
        # As `_is_placewise` has made sure.
        SEPARATE[found] = True
        return found


def _portion(y: Interval, top: int, left: int, window: _Window, inside: Tensor | None) -> Interval:
    """A part of a cut, of which what is beyond the map counts as 0."""
    at = (..., slice(top, top + window.height), slice(left, left + window.width))
    mask = None if inside is None else inside[at]
    step = Step(_portion, (y, top, left, mask), {}, _depth(y) + 1)
    center, radius = y.center[at], y.radius[at]
    return copied(y, clean=center, center=center, radius=radius, step=step)


def _portion_back(step: Step, result: Interval, rows: Tensor) -> Backward:
    """Rule of `_portion`, which is exact."""
    y, top, left, mask = step.args
    rows = rows if mask is None else rows * mask
    (height, width), (tall, wide) = rows.shape[-2:], y.shape[-2:]
    rows = F.pad(rows, (left, wide - left - width, top, tall - top - height))
    return Backward([(y, rows)], torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device))


def _is_rectified(interval: Interval) -> bool:
    return interval.step is not None and interval.step.func in _RECTIFIERS


def _depth(interval: Interval) -> int:
    return -1 if interval.step is None else interval.step.depth
