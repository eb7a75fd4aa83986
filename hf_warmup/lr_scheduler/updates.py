"""Counts the updates that an optimizer makes, whatever wraps it."""

import weakref
from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer


class UpdateCounter:
    """The number of updates made, counted by a hook on the optimizer.

    An update is one pass over the param groups. A wrapper may make several calls of `optimizer.step` of it:
    DeepSpeed's ZeRO makes one for each param group, with the other groups taken away, or one for each part of a group
    (stage 3).
    So a call begins a new update if its first parameter was stepped already, or if the scheduler was advanced since.
    Two kinds of calls are no updates: a gradient scaler's with an overflow inside a fused optimizer, and the first
    pass with gradients of 0 by which DeepSpeed makes room for the optimizer's state.

    Args:
        optimizer: a torch optimizer without wrapper.
        count: updates made before.

    Attributes:
        count: updates made so far.
        sees_updates: False if the optimizer has no hooks.
    """

    def __init__(self, optimizer: Optimizer, count: int = 0) -> None:
        self.count = count
        self.sees_updates = hasattr(optimizer, "_optimizer_step_post_hooks")
        self._stepped: set[int] = set()
        self._own = {id(group["params"][0]) for group in optimizer.param_groups if group["params"]}
        if self.sees_updates:
            hook_weakly(self, UpdateCounter._note_call, optimizer.register_step_post_hook)

    def end_pass(self) -> None:
        """Let the next call begin a new update."""
        self._stepped.clear()

    def _note_call(self, optimizer: Optimizer) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        first = id(parameters[0]) if parameters else 0
        if _overflowed(optimizer):
            return
        if self.count == 0 and first not in self._own:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients and not any(bool(gradient.any()) for gradient in gradients):
                return
        if not self._stepped or first in self._stepped:
            self.count += 1
            self._stepped = {first}
        else:
            self._stepped.add(first)


def _overflowed(optimizer: Any) -> bool:
    """Whether a gradient scaler has let a fused optimizer leave this update out; it waits for that itself.

    The package's own loop leaves out updates in the same way, without a scaler, and waits for no device.
    """
    return hasattr(optimizer, "grad_scale") and bool(getattr(optimizer, "found_inf", False))


def hook_weakly(owner: Any, method: Callable[[Any, Any], None], register: Callable[..., Any]) -> None:
    """Register a hook of an optimizer that neither keeps its owner alive nor outlives it.

    Args:
        owner: passed to `method` as long as it lives.
        method: called with the owner and the optimizer.
        register: the optimizer's method that takes a hook and returns a handle.
    """
    reference = weakref.ref(owner)

    def hook(optimizer: Any, *_: Any) -> None:
        alive = reference()
        if alive is not None:
            method(alive, optimizer)

    weakref.finalize(owner, register(hook).remove)


def unwrap(optimizer: Any) -> Optimizer:
    """The torch optimizer inside Accelerate's or DeepSpeed's wrapper, or the optimizer itself.

    Raises:
        TypeError: if there is none.
    """
    inner = optimizer
    while not hasattr(inner, "_optimizer_step_post_hooks") and hasattr(inner, "optimizer"):
        inner = inner.optimizer
    if not isinstance(inner, Optimizer):
        raise TypeError(f"expected a torch optimizer, got {type(optimizer).__name__}.")
    return inner
