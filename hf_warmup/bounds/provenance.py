"""How an interval came about: its last affine map, and the steps that backward linear bounds walk where they are kept.

An input with a `Step` makes every operation leave one on its result. Whatever else rules do, they need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """Where an interval came from: `input @ weight.T + bias`.

    What comes next may be merged with it before anything is bounded, which is tighter than bounding twice.

    Attributes:
        roundings: how many more than a layer's own roundings the weight and the bias have gone through.
    """

    # An interval, which this file need not know.
    input: Any
    weight: Tensor
    bias: Tensor | None
    roundings: int = 0


@dataclass(frozen=True)
class Softmax:
    """Where an interval came from: the softmax of logits, (B, K), over the classes; it keeps their order."""

    logits: Any


@dataclass(frozen=True)
class Convolution:
    """Where an interval came from: `apply(input, weight, bias)`, which is linear in each argument.

    Attributes:
        apply: the convolution with its stride, padding, dilation and groups; a bias of None adds nothing.
    """

    input: Any
    weight: Tensor
    bias: Tensor | None
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]


# Given an operation and an interval that it is about to act on: the same interval, or a narrower one.
Refine = Callable[[Callable[..., Any], Any], Any]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on intervals; the input's has no function.

    Attributes:
        func: the torch operation; None for an input.
        args, kwargs: as it was called, intervals included.
        depth: more than that of every interval among them, so that descending depths visit results before operands.
        part: which output this is, of an operation that returns several.
        refine: applied to what an operation takes, before its rule.
    """

    func: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    depth: int = 0
    part: int | None = None
    refine: Refine | None = None

    def operands(self) -> list[Any]:
        """The intervals that it acts on, in order, with repetitions."""
        return [part for part in parts((*self.args, *self.kwargs.values())) if hasattr(part, "radius")]


def parts(values: Any) -> Iterator[Any]:
    """Every value of a call, with those in lists and tuples."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from parts(value)
        else:
            yield value


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """A call's argument with every interval in it changed."""
    if isinstance(value, dict):
        return {key: replaced(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(replaced(part, change) for part in value)
    return change(value) if hasattr(value, "radius") else value


def remember(result: Any, step: Step) -> None:
    """Write down on an operation's result, which nobody else has seen yet, which step made it."""
    for index, part in enumerate(result if isinstance(result, tuple) else (result,)):
        if hasattr(part, "radius") and not any(part is operand for operand in step.operands()):
            own = Step(step.func, step.args, step.kwargs, step.depth, index, step.refine)
            object.__setattr__(part, "step", own if isinstance(result, tuple) else step)
