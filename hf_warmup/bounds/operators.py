"""Python's operators and attributes of a tensor, each by the torch operation that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


Operator = Callable[[Any, Any], Any]


def _operator(func: Operator, *, turned: bool = False) -> Operator:
    """An operator between two; `turned` where the tensor is the right one."""

    def operator(self: Any, other: Any) -> Any:
        return self._apply(func, other, self) if turned else self._apply(func, self, other)

    return operator


def _assignment(func: Operator) -> Operator:
    return lambda self, other: self._in_place(func, other)


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

    __add__ = __radd__ = _operator(torch.add)
    __sub__, __rsub__ = _operator(torch.sub), _operator(torch.sub, turned=True)
    __mul__ = __rmul__ = _operator(torch.mul)
    __truediv__, __rtruediv__ = _operator(torch.div), _operator(torch.div, turned=True)
    __pow__, __rpow__ = _operator(torch.pow), _operator(torch.pow, turned=True)
    __matmul__, __rmatmul__ = _operator(torch.matmul), _operator(torch.matmul, turned=True)

    def __neg__(self) -> Any:
        return self._apply(torch.neg, self)

    def __abs__(self) -> Any:
        return self._apply(torch.abs, self)

    __iadd__, __isub__ = _assignment(torch.add), _assignment(torch.sub)
    __imul__, __itruediv__ = _assignment(torch.mul), _assignment(torch.div)

    # Without these Python would compare objects, and take a length for a truth value.
    __hash__ = object.__hash__
    __eq__, __ne__ = _operator(torch.eq), _operator(torch.ne)
    __lt__, __le__ = _operator(torch.lt), _operator(torch.le)
    __gt__, __ge__ = _operator(torch.gt), _operator(torch.ge)
