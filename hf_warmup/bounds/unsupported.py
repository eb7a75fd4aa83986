"""What is said of an operation without a rule: its name as it is written, and what could be written instead."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


_DISCRETE = "it is not continuous, so no box of pixels has a box of results; leave it out of the forward pass"
_TOKENS = "bounds are about pixels, which are numbers: begin after it"
_RECURRENT = "replace it by layers without recurrence, or by its cell written with torch.sigmoid and torch.tanh"
_RANDOM = "it is random; set its rate to 0, or call it in training alone"
_COMPARED = "what depends on comparing pixels has no bounds; torch.maximum, torch.clamp and F.relu have"

# Advice on operations that no other spelling helps, by a part of their names.
_ADVICE = {
    "embedding": _TOKENS,
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "rnn": _RECURRENT,
    "argm": _DISCRETE,
    "argsort": _DISCRETE,
    "bucketize": _DISCRETE,
    "searchsorted": _DISCRETE,
    "one_hot": _DISCRETE,
    "nonzero": _DISCRETE,
    "unique": _DISCRETE,
    "round": _DISCRETE,
    "floor": _DISCRETE,
    "ceil": _DISCRETE,
    "trunc": _DISCRETE,
    "sign": _DISCRETE,
    "long": _DISCRETE,
    "int": _DISCRETE,
    "item": "it takes a number out of the computation; go on with the tensor",
    "tolist": "it takes numbers out of the computation; go on with the tensor",
    "numpy": "it takes numbers out of the computation; go on with the tensor",
    "gumbel": _RANDOM,
    "bernoulli": _RANDOM,
    "rand": _RANDOM,
    "normal_": _RANDOM,
    "eq": _COMPARED,
    "ne": _COMPARED,
    "lt": _COMPARED,
    "le": _COMPARED,
    "gt": _COMPARED,
    "ge": _COMPARED,
    "isnan": _COMPARED,
    "fft": "write the transform as a matrix product with its cosines and sines",
    "grid_sample": "sample at fixed places, by a convolution or F.interpolate",
}
# As C names the classes that torch's functions and methods belong to.
_OWNERS = {"TensorBase": "Tensor", "_VariableFunctionsClass": "torch", "Tensor": "Tensor"}


def refusal(func: Callable[..., Any], supported: Iterable[Callable[..., Any]]) -> str:
    """One line on an operation that is not among those that are supported."""
    own = _bare(func)
    message = f"no rule bounds the operation {written(func)}"
    for part, advice in _ADVICE.items():
        if own == part or (len(part) > 2 and part in own):
            return f"{message}: {advice}"
    names = {_bare(other): other for other in supported}
    close = difflib.get_close_matches(own, names, n=1, cutoff=0.75)
    return f"{message}; the nearest that has one is {written(names[close[0]])}" if close else message


def written(func: Callable[..., Any]) -> str:
    """An operation as it is written, such as "torch.exp" or "Tensor.max"."""
    qualified = str(getattr(func, "__qualname__", None) or getattr(func, "__name__", repr(func)))
    owner, _, name = qualified.rpartition(".")
    if owner:
        return f"{_OWNERS.get(owner, owner)}.{name}"
    module = str(getattr(func, "__module__", None) or "")
    place = "F" if module == "torch.nn.functional" or "_nn" in repr(func) else module if module else "torch"
    return f"{place}.{name.lstrip('_')}"


def _bare(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__name__", repr(func))).strip("_")
