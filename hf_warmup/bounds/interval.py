"""A box of tensors that flows through an unmodified `nn.Module`.

An `Interval` stands for every tensor between `center - radius` and `center + radius`, and carries the clean tensor
along. Calling a module with it dispatches each torch operation to the table `RULES` by `__torch_function__`, or to
another one of the same signatures that it carries; an operation without a rule raises. Nothing is traced, wrapped or
stored on modules. Shape letters, here and in all of `bounds`: B batch, K classes, C channels, H and W height and
width, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.operators import Operators
from hf_warmup.bounds.provenance import Affine, Convolution, Softmax, Step, parts, remember, replaced
from hf_warmup.bounds.unsupported import refusal


# As what torch.compile hands `interval - tensor` and its like over: the reflected method, with the operands exchanged.
_REFLECTED = (
    (Tensor.__radd__, torch.add),
    (Tensor.__rsub__, torch.sub),
    (Tensor.__rmul__, torch.mul),
    (Tensor.__rtruediv__, torch.div),
)


# From a torch operation to what bounds it.
Rule = Callable[..., Any]
Rules = Mapping[Callable[..., Any], Rule]

# The table, which `hf_warmup.bounds.rules` fills: rules are about intervals, so they cannot be known here.
RULES: dict[Callable[..., Any], Rule] = {}


class UnsupportedOperation(NotImplementedError):
    """An operation (or a use of it) without a rule: a bound that may be wrong is never guessed."""


@dataclass(frozen=True, eq=False)
class Interval(Operators):
    """All tensors within `radius` of `center`, elementwise.

    Attributes:
        clean: the unperturbed tensor; its operations are exactly those of a plain forward pass.
        center, radius: of `clean`'s shape and dtype; radius >= 0.
        provenance: the affine map or softmax of logits that made it, if one did; `FAST_RULES` alone keep convolutions.
        tape: list to which each ReLU appends its input, or by `FAST_RULES` its `Moments`, if one is given.
        rounding: 0, or the unit roundoff: then every rule widens its result by a bound on its own rounding error.
        rules: the table that bounds operations on it, `RULES` for None; where `rounding` is set it is always `RULES`.
        step: the operation that made it, if its input was given one; see `provenance`.
        magnitude: with `step` and `rounding`, a bound on the sum of absolute terms that an element is the sum of.
        spent: holds something once an in-place operation has changed what this stood for; shared by all views of it.
        became: what stands for it since an in-place operation, if one did; see `latest`.
    """

    clean: Tensor
    center: Tensor
    radius: Tensor
    provenance: Affine | Convolution | Softmax | None = None
    tape: list[Any] | None = None
    rounding: float = 0.0
    rules: Rules | None = field(default=None, repr=False)
    spent: list[bool] = field(default_factory=list, repr=False)
    step: Step | None = field(default=None, repr=False)
    magnitude: Tensor | None = field(default=None, repr=False)
    became: list[Interval] = field(default_factory=list, repr=False)

    @property
    def lower(self) -> Tensor:
        """Least value of each element; rounded down where `rounding` is set."""
        lower = self.center - self.radius
        return lower - self._slack() if self.rounding else lower

    @property
    def upper(self) -> Tensor:
        """Greatest value of each element; rounded up where `rounding` is set."""
        upper = self.center + self.radius
        return upper + self._slack() if self.rounding else upper

    def _slack(self) -> Tensor:
        # One rounding of c +- r, one of adding the slack itself, and the slack's own.
        # It is finite, as a masked score of -inf is exactly that, and one of finfo.min must not overflow upwards.
        slack = 4.0 * self.rounding * self.center.abs() + 4.0 * self.rounding * self.radius
        return slack.clamp(max=torch.finfo(slack.dtype).max)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for reflected, operation in _REFLECTED:
            if func is reflected:
                return apply_rule(operation, args[::-1], {})
        return apply_rule(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        method = getattr(Tensor, name, None)
        if name.startswith("__") or not callable(method):
            raise AttributeError(f"Interval has no attribute {name!r}")
        if name.endswith("_") and callable(getattr(Tensor, name[:-1], None)):
            return lambda *args, **kwargs: in_place(getattr(Tensor, name[:-1]), self, args, kwargs)
        return lambda *args, **kwargs: apply_rule(method, (self, *args), kwargs)

    # What modules ask of a tensor besides its value.
    shape = property(lambda self: self.clean.shape)
    dtype = property(lambda self: self.clean.dtype)
    device = property(lambda self: self.clean.device)
    ndim = property(lambda self: self.clean.ndim)
    requires_grad = property(lambda self: self.center.requires_grad or self.radius.requires_grad)
    layout = property(lambda self: self.clean.layout)
    is_cuda = property(lambda self: self.clean.is_cuda)
    is_cpu = property(lambda self: self.clean.is_cpu)
    is_mps = property(lambda self: self.clean.is_mps)
    is_nested = property(lambda self: False)
    data = property(lambda self: self.detach())

    def dim(self) -> int:
        """Number of dimensions."""
        return self.clean.dim()

    def size(self, dim: int | None = None) -> Any:
        """Shape, or its entry `dim`."""
        return self.clean.size() if dim is None else self.clean.size(dim)

    def numel(self) -> int:
        """Number of elements."""
        return self.clean.numel()

    def __len__(self) -> int:
        return len(self.clean)

    def _apply(self, func: Callable[..., Any], *args: Any) -> Any:
        return apply_rule(func, args, {})

    def _in_place(self, func: Callable[..., Any], *args: Any) -> Any:
        return in_place(func, self, args, {})

    def __bool__(self) -> bool:
        raise UnsupportedOperation("a branch that depends on an interval has no rule")


def in_place(func: Callable[..., Any], first: Interval, others: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of `func`, for which `first` stands from now on.

    Numbers of intervals do not change: whoever has kept `first` as an operand goes on with what it was, and no view of
    it may be used again.
    """
    before = latest(first)
    result = apply_rule(func, (before, *others), kwargs)
    before.spent.append(True)
    before.became.append(result)
    return result


def latest(value: Any) -> Any:
    """What stands for an interval after operations in place; anything else as it is."""
    while isinstance(value, Interval) and value.became:
        value = value.became[-1]
    return value


def apply_rule(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a torch operation on intervals, by its rule.

    Raises:
        UnsupportedOperation: if there is none.
    """
    rules: Rules = RULES
    spent, steps = False, []
    for part in parts((*args, *kwargs.values())):
        if isinstance(part, Interval):
            if part.became:
                return apply_rule(func, replaced(args, latest), replaced(kwargs, latest))
            spent = spent or len(part.spent) > 0
            if part.step is not None:
                steps.append(part.step)
            if part.rules is not None and not part.rounding:
                rules = part.rules
    rule = rules.get(func)
    if rule is None:
        raise UnsupportedOperation(refusal(func, rules))
    if spent:
        raise UnsupportedOperation("a tensor is used again after an in-place operation has changed it")
    return rule(*args, **kwargs) if not steps else _with_step(rule, func, args, kwargs, steps)


def _with_step(rule: Rule, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, steps: list[Step]) -> Any:
    refine = steps[0].refine
    if refine is not None:
        args, kwargs = (replaced(each, lambda x: refine(func, x)) for each in (args, kwargs))
    result = rule(*args, **kwargs)
    remember(result, Step(func, args, kwargs, 1 + max(step.depth for step in steps), refine=refine))
    return result


def made(
    like: Interval, clean: Tensor, center: Tensor, radius: Tensor, *, magnitude: Tensor | None = None, terms: int = 1
) -> Interval:
    """A rule's result, widened by a bound on its rounding error if `like` asks for that.

    Args:
        like: the operation's input; tape, rounding and rules are taken from it.
        clean, center, radius: as computed.
        magnitude: a bound on the sum of absolute values of the terms whose sum each element of center is;
            |center| + radius where it is a sum of no more than a few terms of one sign.
        terms: how many roundings lie between the inputs and an element.

    Source: |fl(sum) - sum| <= gamma_n sum |terms| in any order of summation, gamma_n = n u / (1 - n u): Higham,
        Accuracy and Stability of Numerical Algorithms, section 4.2.
    """
    if like.rounding:
        roundings = (terms + 4) * like.rounding
        gamma = roundings / (1.0 - 2.0 * roundings)
        bound = center.abs() + radius if magnitude is None else magnitude
        radius = radius * (1.0 + 2.0 * gamma) + gamma * bound * (1.0 + 2.0 * gamma) + least(center.dtype)
    kept = magnitude if like.step is not None else None
    return Interval(clean, center, radius, tape=like.tape, rounding=like.rounding, rules=like.rules, magnitude=kept)


def least(dtype: torch.dtype) -> float:
    """What a bound on rounding is at least: more than all products that underflow in a sum can amount to.

    The smallest normal number would be enough for that. But what a weight below 1 makes of it is subnormal, with which
    processors compute many times slower, and every unit whose bounds are 0 passes it on. This power of it (1e-277 in
    float64) leaves room for weights down to 1e-30, and makes no difference to any margin.
    """
    return math.pow(torch.finfo(dtype).tiny, 0.9)


def from_ends(like: Interval, clean: Tensor, lower: Tensor, upper: Tensor) -> Interval:
    """The interval between two tensors, `lower <= upper`."""
    center, radius = (lower + upper) / 2, (upper - lower) / 2
    return made(like, clean, center, radius, magnitude=lower.abs() + upper.abs() if like.rounding else None)


def shared(first: Interval, **changes: Any) -> Interval:
    """A copy without provenance, and with other changes; a view of `first`, of what in-place operations change."""
    # Only what is not replaced is read: a convolution's bounds are computed when they are.
    names = ("clean", "center", "radius", "tape", "rounding", "rules", "spent")
    # What the terms of an element add up to stays true where the elements stay.
    kept = [name for name in (*names, *(() if "center" in changes else ("magnitude",))) if name not in changes]
    return Interval(**{name: getattr(first, name) for name in kept}, **changes)


def copied(first: Interval, **changes: Any) -> Interval:
    """As `shared`, for what is no view of `first`."""
    return shared(first, spent=[], **changes)
