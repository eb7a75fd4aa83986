"""What was bounded is compared with what the model computes: of every image, in other company, and within its box."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval, propagate
from hf_warmup.bounds.exact import exactly
from hf_warmup.bounds.interval import latest
from hf_warmup.bounds.propagation import logits_in


# Relative to a row's largest number: what float64 may round differently in another batch.
TOLERANCE = 1e-9
# Of a batch's images, one in so many is also tried away from its center.
SHARE = 16


def logits_of(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """A plain pass, (B, K); one in float64 rounds nothing to float32 on its way."""
    with exactly():
        output = model(pixel_values)
    logits: Tensor = logits_in(output)
    return logits


def check_function(model: nn.Module, box: Interval, logits: Interval, generator: torch.Generator) -> None:
    """Compare bounds on logits with plain passes in float64.

    Every image goes through the model a second time: in another order, at another place of a batch of another size,
    between two images of noise; one of them alone as well. With them go random points and corners of some boxes.

    Args:
        model: in float64.
        box: the images' boxes, (B, ...).
        logits: what bounding them gave, (B, K).
        generator: of order, noise and points, on the CPU.

    Raises:
        ValueError: if an image's logits are others, or a point's logits lie outside.
    """
    images = box.clean
    order = torch.randperm(len(images), generator=generator, device="cpu").to(images.device)
    some = order[: -(-len(order) // SHARE)]
    noise = _uniform((2, *images.shape[1:]), images, generator)
    points = _points(box, generator, some)
    company = torch.cat([noise[:1], points, images[order], noise[1:]])
    found = logits_of(model, company)[1:-1]
    _compare_clean(found[len(some) :], logits.clean[order])
    _compare_clean(logits_of(model, images[order[:1]]), logits.clean[order[:1]])
    _compare_points(found[: len(some)], logits, some)


def probe(model: nn.Module, box: Interval, generator: torch.Generator) -> Interval:
    """Bound a few images, and compare the outputs of every module with its bounds, besides what `check_function` does.

    Returns:
        Bounds on the logits.

    Raises:
        ValueError: as `check_function`, or if a module's outputs lie outside of their bounds.
        UnsupportedOperation: as `propagate`.
    """
    with _each_output(model) as bounds:
        logits = propagate(model, box)
    check_logits(logits, len(box.clean))
    check_function(model, box, logits, generator)
    limits = {
        place: [_Limits.of(x) if isinstance(x, Interval) else None for x in each] for place, each in bounds.items()
    }
    for first in (0, 1):
        with _each_output(model) as values:
            found = logits_of(model, _points(box, generator, first=first))
        for place, each in values.items():
            for limit, value in zip(limits.get(place, []), each, strict=False):
                if limit is not None and limit.lower.shape == value.shape and not limit.hold(value):
                    raise ValueError(
                        f"module {place[0] or type(model).__name__!r} gives plain tensors other values than it gives "
                        "bounds, so what was bounded is not what the model computes: code that asks for "
                        "torch.Tensor cannot be certified."
                    )
        _compare_points(found, logits)
    return logits


def check_logits(logits: Interval, batch: int) -> None:
    """Raise ValueError unless there are at least two logits for each image."""
    if logits.dim() != 2 or len(logits) != batch or logits.shape[1] < 2:
        raise ValueError(
            f"the model must give two or more logits for each of the {batch} images, got shape {tuple(logits.shape)}."
        )


def _points(box: Interval, generator: torch.Generator, chosen: Tensor | None = None, *, first: int = 0) -> Tensor:
    """A point of each box: of every second one from `first` on a corner, of the others any."""
    lower, upper = (end if chosen is None else end[chosen] for end in _ends(box))
    places = _uniform(lower.shape, lower, generator)
    places[first::2] = places[first::2].round()
    return torch.minimum(lower + places * (upper - lower), upper)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)


def _ends(box: Interval) -> tuple[Tensor, Tensor]:
    # The box is a little wider than the images' range of pixels where it was rounded outward.
    return box.center - box.radius, box.center + box.radius


@contextmanager
def _each_output(model: nn.Module) -> Iterator[dict[tuple[str, int], list[Any]]]:
    """What modules return, by a module's name and how often it was called before, as it was when they did."""
    calls: dict[str, int] = {}
    outputs: dict[tuple[str, int], list[Any]] = {}

    def hook(name: str) -> Callable[..., None]:
        def call(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, -1) + 1
            # What works in place afterwards changes tensors.
            kept = [latest(x) if isinstance(x, Interval) else x.clone() for x in _tensors(output)]
            outputs[name, calls[name]] = kept

        return call

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Any]:
    if isinstance(output, Interval | Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


@dataclass(frozen=True)
class _Limits:
    """The ends of bounds, a little widened; bounds that are NaN claim nothing."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, bound: Interval) -> "_Limits":
        lower, upper = bound.lower, bound.upper
        slack = TOLERANCE * _scale(torch.maximum(lower.abs(), upper.abs()))
        return cls(lower - slack, upper + slack)

    def hold(self, value: Tensor, chosen: Tensor | slice = slice(None)) -> bool:
        """Whether a value lies between them."""
        lower, upper = self.lower[chosen], self.upper[chosen]
        if bool(((value >= lower) & (value <= upper)).all()):
            return True
        lost = value.isnan() & ~lower.isnan() & ~upper.isnan()
        return not bool(((value < lower) | (value > upper) | lost).any())


def _scale(values: Tensor) -> Tensor | float:
    """The largest finite number of each row."""
    rows = values.nan_to_num(nan=0.0, posinf=0.0)
    return rows.flatten(1).amax(1).view(-1, *[1] * (values.dim() - 1)) if values.dim() > 1 and rows.numel() else 0.0


def _compare_points(found: Tensor, logits: Interval, chosen: Tensor | slice = slice(None)) -> None:
    if not _Limits.of(logits).hold(found, chosen):
        raise ValueError(
            "the model's logits at a point of the box lie outside of their bounds, so what was bounded is not what "
            "the model computes: code that asks for torch.Tensor, or that draws random numbers, cannot be certified."
        )


def _compare_clean(found: Tensor, expected: Tensor) -> None:
    same = found.shape == expected.shape
    if same:
        far = (found - expected).abs() > TOLERANCE * _scale(expected.abs())
        same = not bool((far | (found.isnan() != expected.isnan())).any())
    if not same:
        raise ValueError(
            "the model's logits are not a function of the image alone: they differ between two passes, or with "
            "the other images of the batch, so nothing can be certified about an image."
        )
