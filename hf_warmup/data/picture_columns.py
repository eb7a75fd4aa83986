"""Which columns of a table hold pictures and labels, and what classes those are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from hf_warmup.data.classes import Classes, sorted_classes
from hf_warmup.data.config import DataConfig
from hf_warmup.data.picture_sets import Table, is_picture
from hf_warmup.errors import ConfigError


# Columns that hold the labels where a person names none.
_LABELS = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Rows:
    """A split's pictures before they are decoded, and its labels.

    Attributes:
        pictures: a `datasets.Dataset` of one column, `image`, each with its bytes or its path.
        labels: class numbers, as many.
        classes: of the whole data.
        split: the name of the part.
    """

    pictures: Any
    labels: list[int]
    classes: Classes
    split: str


def rows_of(config: DataConfig, tables: list[Table]) -> Rows:
    """The rows of the first table; others have a say in what classes there are.

    Raises:
        ConfigError: if a column is not there, is not clear, or holds no pictures or no classes.
    """
    table = tables[0]
    where = f"data set {config.name!r}"
    image = _image_column(config, table, where)
    label = _label_column(config, table, image, where)
    feature = table.rows.features[label]
    found = _distinct(table, label, f"{where}, split {table.split}, column {label}")
    values = list(table.rows[label])
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
        # Which is what a feature is given where only the number of classes is known.
        nameless = names == tuple(map(str, range(len(names))))
        classes = Classes(len(names), None if nameless else names)
    elif all(isinstance(value, str) for value in found):
        others = (other for other in tables[1:] if label in other.rows.features)
        every = found.union(*(other.rows.unique(label) for other in others))
        classes = sorted_classes(name for name in every if isinstance(name, str))
        numbers = {name: number for number, name in enumerate(classes.names or ())}
        values = [numbers[value] for value in values]
    else:
        classes = Classes(int(max(found)) + 1)
    return Rows(_pictures(table, image), [int(value) for value in values], classes, table.split)


def _image_column(config: DataConfig, table: Table, where: str) -> str:
    """The column of pictures that is asked for, or the only one."""
    kinds = {name: _kind(table, name) for name in table.rows.features}
    asked = config.image_column
    if asked is not None:
        _check_there(asked, kinds, "image_column", where)
        if kinds[asked] is None:
            some = ", ".join(name for name, kind in kinds.items() if kind is not None) or "none"
            raise ConfigError(f"{where}: column {asked} holds no pictures; columns that do: {some}.")
        return str(asked)
    # What is called an image before what may be one.
    best = min((kind for kind in kinds.values() if kind is not None), default=None)
    found: list[str] = [name for name, kind in kinds.items() if kind == best and best is not None]
    if len(found) != 1:
        several = f"several columns hold pictures ({', '.join(found)})" if found else "no column holds pictures"
        raise ConfigError(
            f"{where}: {several}; it has {', '.join(kinds)}. Name one: --image-column, or image_column in a recipe."
        )
    return found[0]


def _kind(table: Table, name: str) -> int | None:
    """How a column holds pictures: as images, as bytes, or as paths of files; None for no pictures."""
    feature = table.rows.features[name]
    if isinstance(feature, datasets.Image):
        return 0
    if isinstance(feature, dict) and feature.keys() == {"bytes", "path"}:
        return 1
    dtype = getattr(feature, "dtype", None)
    if dtype in ("binary", "large_binary"):
        return 1
    if dtype in ("string", "large_string"):
        first = next((value for value in islice(table.rows[name], 100) if value), "")
        return 2 if is_picture(Path(str(first))) else None
    return None


def _label_column(config: DataConfig, table: Table, image: str, where: str) -> str:
    """The column of labels that is asked for, the one that is called so, or the only one that there is besides."""
    features, asked = table.rows.features, config.label_column
    if asked is not None:
        _check_there(asked, features, "label_column", where)
        if asked == image:
            raise ConfigError(f"{where}: column {asked} is that of the images; name another as label_column.")
        return str(asked)
    called = [name for name in _LABELS if name in features]
    stated = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    others = [name for name in features if name != image]
    found = next((names for names in (called, stated, others) if names), [])
    if len(found) != 1:
        several = f"several columns may be labels ({', '.join(found)})" if found else "there is no column of labels"
        raise ConfigError(
            f"{where}: {several}; it has {', '.join(features)}. Name one: --label-column, or label_column in a recipe."
        )
    return found[0]


def _check_there(name: str, features: Iterable[str], key: str, where: str) -> None:
    if name not in (present := list(features)):
        raise ConfigError(f"{where}: {key} {name!r} is not there; it has {', '.join(present)}.")


def _distinct(table: Table, label: str, at: str) -> set[Any]:
    """The labels of a split, each once.

    Raises:
        ConfigError: unless they are words, or whole numbers from 0 on.
    """
    if not len(table.rows):
        raise ConfigError(f"{at}: there are no rows.")
    dtype = getattr(table.rows.features[label], "dtype", "a list")
    if dtype == "null":
        raise ConfigError(f"{at}: all labels are empty; choose a split that has labels.")
    if not re.match("u?int|bool|float|string|large_string", dtype):
        raise ConfigError(f"{at}: labels must be words or whole numbers, got {dtype}.")
    found = set(table.rows.unique(label))
    if any(value is None or value != value for value in found):
        row = next(row for row, value in enumerate(table.rows[label]) if value is None or value != value)
        raise ConfigError(f"{at}: some labels are empty, such as that of row {row}; fill them in or leave them out.")
    if strange := [value for value in found if isinstance(value, float)]:
        raise ConfigError(f"{at}: labels must be words or whole numbers, got {strange[0]!r}.")
    if lowest := [value for value in found if not isinstance(value, str) and value < 0]:
        raise ConfigError(
            f"{at}: labels must be 0 or more, got {min(lowest)}"
            + ("; -1 stands for hidden labels: choose a split that has labels." if min(lowest) == -1 else ".")
        )
    return found


def _pictures(table: Table, column: str) -> Any:
    """The pictures alone, as a column `image` of bytes and paths."""
    kind = _kind(table, column)
    rows = table.rows.select_columns([column])
    rows = rows if column == "image" else rows.rename_column(column, "image")
    if kind == 2:
        paths = [None if path is None else _placed(table.base, path) for path in rows["image"]]
        rows = datasets.Dataset.from_dict({"image": paths})
    return rows.cast_column("image", datasets.Image(decode=False))


def _placed(base: Path, path: str) -> str:
    return path if "://" in path else str(base / path)
