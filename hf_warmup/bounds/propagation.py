"""The two ends of a pass: the box of an image, and a whole model called with it."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hf_warmup.bounds.einops_backend import teach_einops
from hf_warmup.bounds.exact import exactly
from hf_warmup.bounds.interval import Interval, Rules, UnsupportedOperation, from_ends, latest


def input_interval(
    pixel_values: Tensor,
    eps: float | Tensor,
    *,
    lowest: float = 0.0,
    highest: float = 1.0,
    tape: list[Any] | None = None,
    rounding: float = 0.0,
    rules: Rules | None = None,
) -> Interval:
    """The L-infinity ball of radius `eps` around each image, cut to the range that pixels can have.

    Args:
        pixel_values: (B, C, H, W), within [lowest, highest].
        eps: radius in pixel units, >= 0.
        lowest, highest: the range of pixels.
        tape, rounding, rules: see `Interval`.

    Returns:
        An interval of the images' shape; where the ball is cut its center is not the pixel.

    Source: Shi et al., arXiv 2103.17268, section 3.1; the clipping is their code's.
    """
    return between(
        pixel_values,
        (pixel_values - eps).clamp(min=lowest),
        (pixel_values + eps).clamp(max=highest),
        tape=tape,
        rounding=rounding,
        rules=rules,
    )


def between(
    pixel_values: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    tape: list[Any] | None = None,
    rounding: float = 0.0,
    rules: Rules | None = None,
) -> Interval:
    """All images between two, `lower <= pixel_values <= upper`; arguments as `input_interval`."""
    zero = torch.zeros_like(pixel_values)
    like = Interval(pixel_values, pixel_values, zero, tape=tape, rounding=rounding, rules=rules)
    return from_ends(like, pixel_values, lower, upper)


def propagate(model: nn.Module, interval: Interval) -> Interval:
    """Bounds on a model's logits, (B, K).

    Args:
        model: returns a tensor of logits, or an output that has them, see `logits_in`.
        interval: the model's input.

    Raises:
        UnsupportedOperation: for an operation without a rule, naming it and the module that used it.
    """
    if not torch.compiler.is_compiling():
        teach_einops()
    try:
        with exactly() if interval.dtype == torch.float64 else nullcontext():
            output = model(interval)
    except UnsupportedOperation as error:
        path = _module_path(model, sys.exc_info()[2])
        raise UnsupportedOperation(f"{error}, used by module {path or 'itself'!r} of {type(model).__name__}") from None
    logits = latest(logits_in(output))
    if isinstance(logits, Interval) and logits.spent:
        raise UnsupportedOperation(f"{type(model).__name__} returned logits that it then changed in place")
    if not isinstance(logits, Interval):
        raise UnsupportedOperation(
            f"{type(model).__name__} returned {type(logits).__name__}, not bounds on logits: its forward must return "
            "logits, (B, K), or an output that has them as `logits`"
        )
    return logits


def logits_in(output: Any) -> Any:
    """The logits in what a model returned: themselves, or an output of transformers or a dictionary that has them."""
    if isinstance(output, Mapping):
        return output.get("logits", output)
    return getattr(output, "logits", output)


def _module_path(model: nn.Module, trace: Any) -> str:
    """Name of the innermost module on the stack at which an operation failed."""
    names = {id(module): name for name, module in model.named_modules()}
    path = ""
    while trace is not None:
        path = names.get(id(trace.tb_frame.f_locals.get("self")), path)
        trace = trace.tb_next
    return path
