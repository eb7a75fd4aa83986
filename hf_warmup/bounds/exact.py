"""Arithmetic of proofs: float64 wherever a model asks for float32.

Bounds are of exact arithmetic, which knows neither; a pass that is compared with them must not round in between.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class exactly(TorchFunctionMode):  # noqa: N801
    """In this context, operations in float64 stay in float64 where a model asks for float32, in no inference mode."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.float and args[0].dtype == torch.float64:
            return args[0]
        asked = any(x is torch.float32 for x in (*args, *kwargs.values()))
        if asked and any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in args):
            args = tuple(torch.float64 if x is torch.float32 else x for x in args)
            kwargs = {name: torch.float64 if x is torch.float32 else x for name, x in kwargs.items()}
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            # A forward pass may have turned it on; linear bounds differentiate what is made in it.
            with torch.inference_mode(False), torch.no_grad():
                return func(*args, **kwargs)
        return func(*args, **kwargs)
