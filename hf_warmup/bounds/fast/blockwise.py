"""Elementwise work in blocks that stay in a core's cache, so that what lies between its steps never reaches memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_warmup.bounds.interval import UnsupportedOperation


# Elements of a block: 1 MiB in float32. Smaller ones would be no faster, and each operation on one makes all threads
# meet, which on a busy machine takes longer than the operation.
BLOCK = 2**18

# Where results are written, or what lies between steps; None for new memory.
Places = Sequence[Tensor | None]


def blockwise(
    function: Callable[..., object],
    *tensors: Tensor,
    results: int,
    scratch: int,
    into: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Results of an elementwise function, each of the tensors' shape.

    Args:
        function: takes parts of the tensors, as `out` the places that it shall write its results to, and as `scratch`
            places for what lies between its steps; it returns its results. It is called once with the tensors as they
            are, and with places of None, where blocks do not pay: where a compiler fuses the steps, on an
            accelerator, and where the tensors lie in memory in different orders.
        tensors: of one shape and dtype.
        results, scratch: how many.
        into: tensors of the same kind, perhaps the same ones, to write the results to.
    """
    if not _is_split(*tensors):
        made = tuple(into or [None] * results)
        whole: tuple[Tensor, ...] = function(*tensors, out=made, scratch=[None] * scratch)  # type: ignore[assignment]
        return whole
    whole = tuple(into or (torch.empty_like(tensors[0]) for _ in range(results)))
    parts = [torch.split(_flat(tensor), BLOCK) for tensor in (*tensors, *whole)]
    between = [torch.empty_like(parts[0][0]) for _ in range(scratch)]
    for part in zip(*parts, strict=True):
        places = [place[: len(part[0])] for place in between]
        function(*part[: len(tensors)], out=part[len(tensors) :], scratch=places)
    return whole


def _is_split(*tensors: Tensor) -> bool:
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != "cpu":
        return False
    alike = all(tensor.stride() == first.stride() for tensor in tensors)
    return alike and first.numel() > BLOCK and first.permute(_order(first)).is_contiguous()


def _order(tensor: Tensor) -> list[int]:
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.permute(_order(tensor)).view(-1)


def check_first_order() -> None:
    """Refuse to differentiate a backward pass again: what it keeps of the forward pass carries no gradient.

    Raises:
        UnsupportedOperation: if that is what is asked for.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise UnsupportedOperation("FAST_RULES have no second derivatives; RULES have")
