"""Python's operators and attributes of a tensor, each by the torch operation that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class Operators:
    """What Python does with a tensor; `_apply` and `_in_place` say what an operation is."""

    # A number of NumPy's leaves operators to what it meets, instead of reading it as an array of objects.
    __array_ufunc__ = None

    def _apply(self, func: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def _in_place(self, func: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    T = property(lambda self: self._apply(torch.permute, self, tuple(range(self.dim()))[::-1]))
    mT = property(lambda self: self._apply(torch.transpose, self, -2, -1))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._apply(torch.unbind, self, 0))

    def __getitem__(self, index: Any) -> Any:
        return self._apply(Tensor.__getitem__, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._in_place(Tensor.__setitem__, index, value)

    def __add__(self, other: Any) -> Any:
        return self._apply(torch.add, self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._apply(torch.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply(torch.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self._apply(torch.mul, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._apply(torch.div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply(torch.div, other, self)

    def __pow__(self, exponent: Any) -> Any:
        return self._apply(torch.pow, self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return self._apply(torch.pow, base, self)

    def __matmul__(self, other: Any) -> Any:
        return self._apply(torch.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._apply(torch.matmul, other, self)

    def __neg__(self) -> Any:
        return self._apply(torch.neg, self)

    def __abs__(self) -> Any:
        return self._apply(torch.abs, self)

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(torch.add, other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(torch.sub, other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place(torch.mul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(torch.div, other)

    # Without these Python would compare objects, and take a length for a truth value.
    __hash__ = object.__hash__

    def __eq__(self, other: Any) -> Any:
        return self._apply(torch.eq, self, other)

    def __ne__(self, other: Any) -> Any:
        return self._apply(torch.ne, self, other)

    def __lt__(self, other: Any) -> Any:
        return self._apply(torch.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return self._apply(torch.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return self._apply(torch.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return self._apply(torch.ge, self, other)
