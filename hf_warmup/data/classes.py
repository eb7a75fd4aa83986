"""Classes of images: their names, and which number of a model is meant by which of the data's."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hf_warmup.errors import ConfigError


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Attributes:
        count: how many there are.
        names: by number; None where the data holds numbers without names.
        stated: whether the data says which number is whose; otherwise the names were put in order here.
    """

    count: int
    names: tuple[str, ...] | None = None
    stated: bool = True

    @property
    def are_numbers(self) -> bool:
        """Whether names were put in order here that are numbers themselves, such as 0, 1, ... or LABEL_0, ..."""
        return self.names is not None and not self.stated and None not in map(_number, self.names)


def sorted_classes(names: Iterable[str]) -> Classes:
    """Classes that have names alone: by the alphabet, and numbers by their size."""
    found = set(names)
    key: Any = str if None in map(_number, found) else _number
    return Classes(len(found), tuple(sorted(found, key=lambda name: (key(name), name))), stated=False)


def model_names(id2label: Any) -> tuple[str, ...] | None:
    """The names that a model has for its classes, by number; None if it has transformers' LABEL_0, LABEL_1, ..."""
    if not isinstance(id2label, dict) or not id2label:
        return None
    by_number = {int(number): str(name) for number, name in id2label.items()}
    names = tuple(by_number.get(number, "") for number in range(len(by_number)))
    return None if names == tuple(f"LABEL_{number}" for number in range(len(names))) else names


def class_map(
    classes: Classes,
    names: Sequence[str] | None,
    num_classes: int,
    how: Literal["name", "number"] | None,
    where: str,
) -> list[int]:
    """The model's number of each of the data's classes.

    Args:
        classes: of the data.
        names: of the model's classes, by number; None for a model that has none.
        num_classes: of the model.
        how: whether names or numbers count; None decides by name where both have them, unless numbers contradict.
        where: the data's name, for messages.

    Raises:
        ConfigError: for a class that the model does not have, or names that leave open which is which.
    """
    if how == "name" and (names is None or classes.names is None):
        whose = "the model's classes" if names is None else f"the classes of {where}"
        raise ConfigError(f"match_classes: name, but {whose} have no names; take match_classes: number.")
    # Equal names also where two classes have one, as ImageNet has two cranes.
    if classes.names is None or (how != "number" and names is not None and classes.names == tuple(names)):
        mapping = list(range(classes.count))
    elif how == "number":
        mapping = _numbers(classes)
    elif names is None:
        mapping = _without_names(classes, num_classes, where)
    else:
        mapping = _by_name(classes.names, names, where)
        if how is None and classes.stated and len(mapping) == len(names):
            _check_order(mapping, classes.names, names, where)
    if mapping and max(mapping) >= num_classes:
        raise ConfigError(f"{where} has labels up to {max(mapping)}, and the model has {num_classes} logits.")
    if len(set(mapping)) < len(mapping):
        raise ConfigError(f"{where} has classes that are one to the model: {_some(classes.names or ())}.")
    return mapping


def _by_name(found: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """The model's number of each name."""
    exact, plain = _places(names, str), _places(names, _plain)
    places = [exact.get(name, plain.get(_plain(name))) for name in found]
    if unknown := [name for name, place in zip(found, places, strict=True) if place is None]:
        raise ConfigError(
            f"{where} has classes that the model does not know: {_some(unknown)}; the model's are {_some(names)}. "
            f"Where numbers are meant and names do not matter: --match-classes number."
        )
    return [place for place in places if place is not None]


def _check_order(mapping: Sequence[int], found: Sequence[str], names: Sequence[str], where: str) -> None:
    """Refuse numbers that the data states and the model gives to other classes."""
    first = next((number for number, place in enumerate(mapping) if number != place), None)
    if first is not None and len(set(mapping)) == len(mapping):
        raise ConfigError(
            f"{where} numbers the model's classes in another order: {first} is {found[first]!r} there and "
            f"{names[first]!r} in the model's config. --match-classes name goes by the names, number by the numbers."
        )


def _without_names(classes: Classes, num_classes: int, where: str) -> list[int]:
    """Numbers of classes for a model without names."""
    assert classes.names is not None
    is_known = classes.stated or classes.are_numbers
    if classes.count == num_classes or (is_known and classes.count <= num_classes):
        return _numbers(classes)
    raise ConfigError(
        f"{where} has {classes.count} classes ({_some(classes.names)}), the model has {num_classes} without names, so "
        f"which is which is not known; put names into its config.json: id2label."
    )


def _numbers(classes: Classes) -> list[int]:
    """Numbers as the data has them: those that folders are called by, or the order of the classes."""
    if classes.are_numbers and classes.names is not None:
        return [number for name in classes.names if (number := _number(name)) is not None]
    return list(range(classes.count))


def _places(names: Sequence[str], spelled: Callable[[str], str]) -> dict[str, int]:
    """Number of each name that only one class has."""
    found = [spelled(name) for name in names]
    counts = Counter(found)
    return {name: number for number, name in enumerate(found) if counts[name] == 1}


def _plain(name: str) -> str:
    """A name without what folders change of it: case, and what stands between words."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _number(name: str) -> int | None:
    """The number that a name is, also as transformers writes it: LABEL_3."""
    digits = name.removeprefix("LABEL_")
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
