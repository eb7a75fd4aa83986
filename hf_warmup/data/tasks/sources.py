"""Data of tasks: loaded from the Hub or from files, checked for splits and columns, divided into three parts."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets

from hf_warmup.data.config import SplitConfig
from hf_warmup.data.files import load_file
from hf_warmup.data.kinds import BuiltInTask
from hf_warmup.data.splits import fixed_order
from hf_warmup.data.subsets import load_named
from hf_warmup.errors import ConfigError, first_line


# Of the training examples, what data without a split for choosing or judging gives to each.
_TENTH = 0.1


def load_splits(task: Any, columns: Iterable[str]) -> Any:
    """A task's splits, a `DatasetDict` that holds those that the task names.

    Raises:
        ConfigError: if the data cannot be loaded, or a split or one of `columns` is not there.
    """
    raw = _load(task)
    present = set(raw)
    names = {part: getattr(task.splits, part) for part in ("train", "validation", "test")}
    named = {name for part, name in names.items() if isinstance(name, str) and not _is_taken(part, name, present)}
    where = f"{task.dataset or task.folder} has"
    require(named, present, f"task {task.name}: splits", where, hint=_SPLIT_HINT)
    used = datasets.DatasetDict({split: raw[split] for split in named})
    for split in used.values():
        require(set(columns), set(split.column_names), f"task {task.name}: columns", "the data has")
    return used


_SPLIT_HINT = " A number takes so many examples out of the training split: splits: {validation: 500, test: 500}."


def _load(task: Any) -> Any:
    path = None if task.folder is None else Path(task.folder).expanduser()
    try:
        if path is None:
            return load_named(task.dataset, task.subset)
        if path.is_file():
            return load_file(path)
        if not path.exists():
            raise ConfigError("there is no such file or folder")
        return load_named(str(path), task.subset, is_copy=task.dataset is not None)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        if path is not None:
            raise ConfigError(
                f"task {task.name}: folder {task.folder!r} cannot be loaded: {first_line(error)}"
            ) from None
        raise ConfigError(
            f"task {task.name}: data set {task.dataset!r} cannot be loaded ({first_line(error)}); a local folder "
            f"with the same columns does as well: tasks.N.folder=FOLDER."
        ) from None


def _is_taken(part: str, name: str, present: set[str]) -> bool:
    """Whether a part has to be taken out of train: it stands at its default, and the data have no such split."""
    return name == SplitConfig.model_fields[part].default and name not in present and part != "train"


def divide(parts: Any, task: BuiltInTask) -> tuple[Any, Any, Any]:
    """Train, validation and test; parts that are no split are drawn out of train, validation first.

    Raises:
        ConfigError: if a split is not there, or train is too small.
    """
    splits: SplitConfig = task.splits
    train = parts[splits.train]
    wanted: dict[str, str | int] = {"validation": splits.validation, "test": splits.test}
    for name, split in wanted.items():
        if isinstance(split, str) and _is_taken(name, split, set(parts)):
            wanted[name] = max(1, round(_TENTH * len(train)))
    named = {name for name in (splits.train, *wanted.values()) if isinstance(name, str)}
    require(named, set(parts), f"task {task.name}: splits", "there are", hint=_SPLIT_HINT)
    drawn = {name: size for name, size in wanted.items() if isinstance(size, int)}
    if sum(drawn.values()) >= len(train):
        raise ConfigError(f"task {task.name}: {drawn} cannot be taken out of {len(train)} training examples.")
    order = fixed_order(len(train)).tolist()
    chosen = {name: parts[split] for name, split in wanted.items() if isinstance(split, str)}
    for name, size in drawn.items():
        chosen[name] = train.select(order[:size])
        order = order[size:]
    train = train.select(order[: task.train_examples])
    return train, chosen["validation"], chosen["test"]


def class_numbers(splits: Any, task: Any) -> tuple[Callable[[Any], int], int]:
    """What turns a label into the number of its class, and how many classes there are; words go by the alphabet.

    Raises:
        ConfigError: for labels that are hidden, missing or fractions.
    """
    found = {label for split in splits.values() for label in split.unique(task.label_column)}
    where = f"task {task.name}: column {task.label_column}"
    if None in found:
        raise ConfigError(f"{where}: some labels are empty; fill them in or leave those rows out.")
    if all(isinstance(label, str) for label in found):
        numbers = {label: i for i, label in enumerate(sorted(found))}
        return numbers.__getitem__, len(numbers)
    if not all(isinstance(label, int) for label in found):
        strange = next(label for label in found if not isinstance(label, int))
        raise ConfigError(
            f"{where}: classes must be words or whole numbers, got {strange!r}; for numbers to predict choose metric: "
            f"pearson or spearman."
        )
    if min(found) < 0:
        raise ConfigError(f"task {task.name}: a split's labels are hidden (-1); choose one with labels as test split.")
    return int, int(max(found)) + 1


def require(wanted: set[str], present: set[str], what: str, where: str, hint: str = "") -> None:
    """Refuse names that are not there.

    Raises:
        ConfigError: naming them, and those that are there.
    """
    if missing := sorted(wanted - present):
        raise ConfigError(f"{what} {', '.join(missing)} not found; {where} {', '.join(sorted(present))}.{hint}")
