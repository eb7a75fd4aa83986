"""How torch spells an operation: as a function of torch, a method of a tensor, a function of nn.functional."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_warmup.bounds.interval import Interval, Rule, shared


def spelled(*names: str) -> list[Callable[..., Any]]:
    """The functions of torch and of torch.Tensor that have these names."""
    places = [getattr(place, name, None) for name in names for place in (torch, Tensor)]
    found = [place for place in places if callable(place)]
    assert found, names
    return found


def everywhere(rules: dict[str, Rule]) -> dict[Callable[..., Any], Rule]:
    """A table by functions, from one by their names."""
    return {function: rule for name, rule in rules.items() for function in spelled(name)}


def each(make: Callable[[Callable[..., Any]], Rule], *names: str) -> dict[Callable[..., Any], Rule]:
    """A table of rules that are made of the functions of these names, each from its own."""
    return {function: make(function) for function in spelled(*names)}


def plain(value: Any) -> Any:
    """An interval's clean tensor, where only its shape or dtype counts; anything else as it is."""
    return value.clean if isinstance(value, Interval) else value


def cleanly(function: Callable[..., Any], rule: Rule) -> Rule:
    """The rule, made of others, with the clean result that torch itself gives, which may round otherwise."""

    def exact(*args: Any, **kwargs: Any) -> Any:
        clean = function(*(plain(each) for each in args), **{name: plain(each) for name, each in kwargs.items()})
        result = rule(*args, **kwargs)
        if not isinstance(result, tuple):
            return shared(result, clean=clean)
        return tuple(shared(part, clean=own) for part, own in zip(result, clean, strict=True))

    return exact


def without_inplace(function: Callable[..., Any]) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any], bool]]:
    """What takes `inplace` out of a call of the function, by its name or at its place among the arguments.

    Returns:
        (args, kwargs) -> the rest of args, the rest of kwargs, whether it was set. The input is none of args.
    """
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    place = names.index("inplace") - 1 if "inplace" in names else None

    def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        inplace = bool(kwargs.pop("inplace", False))
        if place is not None and len(args) > place:
            return args[:place], kwargs, bool(args[place])
        return args, kwargs, inplace

    return split
