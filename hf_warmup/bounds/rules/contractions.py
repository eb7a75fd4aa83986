"""Rules of matrix products and of `einsum`.

A matrix product of two intervals is loose by nothing either, if each product in it is taken at its corners. Where that
would keep too much for gradients or take too long, center and radius are multiplied: Rump, "Fast and parallel interval
arithmetic", BIT 39, 1999.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, made
from hf_warmup.bounds.rules.affine import add, as_interval
from hf_warmup.bounds.rules.products import extremes, most, mul, rump
from hf_warmup.bounds.rules.spelling import everywhere


# Products inside one matrix product: above this many the corners would take too long.
_MOST_PRODUCTS = 2**24
# Elements of a temporary tensor of corner products.
_BLOCK = 2**20


def matmul(input: Any, other: Any) -> Interval:
    """Matrix product, with a constant on either side or of two intervals."""
    a, b = as_interval(input, other), as_interval(other, input)
    both = isinstance(input, Interval) and isinstance(other, Interval)
    per_matrix = a.shape[-2] * a.shape[-1] * b.shape[-1] if min(a.dim(), b.dim()) > 1 else 0
    if not both or not per_matrix or not _worth_corners(a, b, per_matrix):
        return rump(torch.matmul, a, b, terms=a.shape[-1] + 3)
    left = [end[..., :, None, :] for end in (a.lower, a.upper)]
    right = [end.mT.contiguous()[..., None, :, :] for end in (b.lower, b.upper)]
    return _by_corners(torch.matmul, a, b, left, right)


def einsum(equation: str, *operands: Any) -> Interval:
    """`torch.einsum` of one operand, or of two."""
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    inputs, output = _letters(equation, operands)
    if len(operands) > 2 or any(len(set(names)) != len(names) for names in inputs):
        raise UnsupportedOperation(f"einsum {equation!r} has no rule: only sums of one operand or two, no diagonals")
    named = [pair for names, x in zip(inputs, operands, strict=True) for pair in zip(names, x.shape, strict=True)]
    # Dimensions of an ellipsis may be broadcast.
    sizes = {name: max(size for other, size in named if other == name) for name, _ in named}
    summed = [name for name in sizes if name not in output]

    def multiply(*tensors: Tensor) -> Tensor:
        return torch.einsum(equation, *tensors)

    terms = math.prod(sizes[name] for name in summed)
    if len(operands) == 1:
        x = operands[0]
        magnitude = multiply(x.center.abs() + x.radius) if x.rounding else None
        clean, center, radius = (multiply(part) for part in (x.clean, x.center, x.radius))
        return made(x, clean, center, radius, magnitude=magnitude, terms=terms + 1)
    first, second = operands
    a, b = as_interval(first, second), as_interval(second, first)
    both = isinstance(first, Interval) and isinstance(second, Interval)
    if not both or not _worth_corners(a, b, math.prod(sizes.values())):
        return rump(multiply, a, b, terms=terms + 3)
    left, right = (
        [_aligned(end, names, output, summed, sizes) for end in (x.lower, x.upper)]
        for x, names in zip((a, b), inputs, strict=True)
    )
    return _by_corners(multiply, a, b, left, right)


def _letters(equation: str, operands: tuple[Any, ...]) -> tuple[list[str], str]:
    """The dimensions' names of each operand and of the result, an ellipsis written out in names of its own."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow:
        once = sorted(name for name in set(left) - {",", "."} if left.count(name) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    # What an ellipsis stands for is aligned at its end.
    counts = [x.dim() - len(names.replace("...", "")) for names, x in zip(inputs, operands, strict=True)]
    most_of_them = max(n for names, n in zip(inputs, counts, strict=True)) if "..." in left else 0
    free = "".join(chr(0x3B1 + i) for i in range(most_of_them))
    inputs = [names.replace("...", free[len(free) - n :]) for names, n in zip(inputs, counts, strict=True)]
    return inputs, output.replace("...", free)


def _aligned(x: Tensor, names: str, output: str, summed: list[str], sizes: dict[str, int]) -> Tensor:
    """Dimensions in the order of the result, and what is summed in one more at the end."""
    order = [*output, *summed]
    x = x.permute([names.index(name) for name in order if name in names])
    x = x.reshape(
        [x.shape[sum(n in names for n in order[:i])] if name in names else 1 for i, name in enumerate(order)]
    )
    kept = list(x.shape[: len(output)])
    return x.expand(*kept, *[sizes[name] for name in summed]).reshape(*kept, -1)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Interval:
    """Sum and a matrix product."""
    product = matmul(mat1, mat2)
    return add(input if beta == 1 else mul(input, beta), product if alpha == 1 else mul(product, alpha))


def _worth_corners(a: Interval, b: Interval, products: int) -> bool:
    kept = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    return products <= _MOST_PRODUCTS and not kept


def _by_corners(
    multiply: Callable[..., Tensor], a: Interval, b: Interval, left: list[Tensor], right: list[Tensor]
) -> Interval:
    """Sums over the last dimension of products of ends, which are broadcast to the result's dimensions before it."""
    clean = multiply(a.clean, b.clean)
    center, radius = torch.zeros_like(clean), torch.zeros_like(clean)
    inner = left[0].shape[-1]
    block = max(1, _BLOCK // max(1, clean.numel()))
    for first in range(0, inner, block):
        some = [[end[..., first : first + block] for end in ends] for ends in (left, right)]
        low, high = extremes(*some)
        center += ((low + high) / 2).sum(-1)
        radius += ((high - low) / 2).sum(-1)
    magnitude = 2 * multiply(most((a.lower, a.upper)), most((b.lower, b.upper))) if a.rounding else None
    return made(a, clean, center, radius, magnitude=magnitude, terms=inner + 6)


TABLE: dict[Callable[..., Any], Rule] = {
    **everywhere(
        {
            "matmul": matmul,
            "bmm": matmul,
            "mm": matmul,
            "mv": matmul,
            "addmm": addmm,
            "baddbmm": addmm,
        }
    ),
    Tensor.__matmul__: matmul,
    torch.einsum: einsum,
}
