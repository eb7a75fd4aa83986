"""Where pictures and their labels stand: a folder of classes, a table of paths, a stored data set, or the Hub.

Deliberately absent: which columns they are, and decoding.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from hf_warmup.data.files import FORMATS, load_file
from hf_warmup.data.subsets import load_named
from hf_warmup.errors import ConfigError, first_line


# Names of a split's folder or table, as datasets reads them.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# What data is called that nobody has divided, such as one file or one folder of classes.
WHOLE = "all"


@dataclass(frozen=True)
class Table:
    """Rows of pictures and labels.

    Attributes:
        rows: a `datasets.Dataset`.
        base: folder that paths in it start from.
        split: the name of the part that it is.
    """

    rows: Any
    base: Path
    split: str


def open_tables(
    place: str, split: str, *, is_test: bool, subset: str | None = None, is_copy: bool = False
) -> list[Table]:
    """The table of a split first, then those of other splits, whose classes are the same.

    Args:
        place: file, folder or Hub name.
        split: its name; data that nobody has divided is `all`, and is taken for train too.
        is_test: whether it is what a model is judged by: then undivided data is taken for test as well.
        subset: which configuration of a Hub data set; None for its only or its default one.
        is_copy: whether the place may hold that subset alone, without its name.

    Raises:
        ConfigError: if the data, the subset or the split cannot be found.
    """
    path = Path(place).expanduser()
    try:
        found = _local(path) if path.exists() else None
    except ConfigError:
        raise
    except Exception as error:  # datasets and the disk raise many kinds
        # What datasets says of a damaged file is only that there was an error.
        raise ConfigError(f"{place} cannot be read ({first_line(error.__cause__ or error)}).") from None
    if found is None:
        return _from_datasets(place, split, subset, is_copy=is_copy)
    if subset is not None and not is_copy:
        raise ConfigError(f"{place} has no subsets, as data sets of the Hub may have; leave subset={subset} out.")
    tables = {table.split: table for table in found}
    names = (split, _SPLITS.get(split.lower(), ""), WHOLE if split == "train" or (split == "test" and is_test) else "")
    chosen = next((tables[name] for name in names if name in tables), None)
    if chosen is None:
        raise ConfigError(f"{place} has no split {split!r}; it has {', '.join(tables)}.")
    return [chosen, *(table for table in found if table is not chosen)]


def _from_datasets(place: str, split: str, subset: str | None, *, is_copy: bool) -> list[Table]:
    """What `datasets` finds on the Hub, or in a folder by the names of its files."""
    try:
        rows = load_named(place, subset, is_copy=is_copy, split=split)
        others = load_named(place, subset, is_copy=is_copy) if _has_texts(rows) else {}
    except ConfigError as error:
        raise ConfigError(
            f"data set {place!r}, split {split!r}, cannot be loaded ({error}); a local folder with the same columns "
            f"does as well."
        ) from None
    return [Table(rows, Path(place), split), *(Table(part, Path(place), name) for name, part in others.items())]


def _has_texts(rows: Any) -> bool:
    """Whether labels may be texts, whose numbers follow from those of all splits."""
    return any(getattr(feature, "dtype", None) in ("string", "large_string") for feature in rows.features.values())


def _local(path: Path) -> list[Table] | None:
    """All splits of a file or folder; None for a folder that `datasets` knows better."""
    if path.is_file():
        return [Table(load_file(path)["train"], path.parent, WHOLE)]
    if (path / "dataset_dict.json").exists():
        return [Table(rows, path, name) for name, rows in datasets.load_from_disk(str(path)).items()]
    if (path / "state.json").exists():
        return [Table(datasets.load_from_disk(str(path)), path, WHOLE)]
    files, folders = _entries(path)
    tables = [file for file in files if file.suffix.lower() in FORMATS and file.suffix != ".txt"]
    # Copies of Hub repositories may hold pictures for their page.
    parquet = (*path.glob("*.parquet"), *path.glob("data/*.parquet"))
    shards = [file for file in parquet if re.split(r"[\W_]", file.stem.lower())[0] in _SPLITS]
    if shards or not _has_pictures(path, depth=3):
        if tables or shards or any(path.rglob("*.parquet")):
            return None
        raise ConfigError(_nothing(path, files, folders))
    named = [file for file in tables if file.stem.lower() in _SPLITS]
    if named:
        return [Table(load_file(file)["train"], path, _SPLITS[file.stem.lower()]) for file in named]
    parts = [folder for folder in folders if folder.name.lower() in _SPLITS and _is_part(folder)]
    others = [folder for folder in folders if folder not in parts and _has_pictures(folder, depth=0)]
    if parts and others:
        raise ConfigError(
            f"{path}: {parts[0].name} looks like a split and {others[0].name} like a class; a folder holds either "
            f"splits, which hold classes, or classes, which hold pictures."
        )
    if not parts:
        return [_of_folder(path, WHOLE)]
    return [_of_folder(part, _SPLITS[part.name.lower()]) for part in parts]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders in it by their names, but hidden ones."""
    with os.scandir(folder) as found:
        entries = sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name)
        return (
            [Path(each.path) for each in entries if each.is_file()],
            [Path(each.path) for each in entries if each.is_dir()],
        )


def is_picture(file: Path) -> bool:
    """Whether a file's name ends as those of pictures do that Pillow can read."""
    return Image.registered_extensions().get(file.suffix.lower()) in Image.OPEN


def _metadata(files: list[Path]) -> Path | None:
    """The table of pictures that `datasets` knows by this name."""
    return next((file for file in files if file.stem == "metadata" and file.suffix.lower() in FORMATS), None)


def _has_pictures(folder: Path, *, depth: int) -> bool:
    files, folders = _entries(folder)
    return any(map(is_picture, files)) or (depth > 0 and any(_has_pictures(each, depth=depth - 1) for each in folders))


def _is_part(folder: Path) -> bool:
    """Whether a folder of a split's name is one: a class of that name holds pictures, and no folders of them."""
    files, folders = _entries(folder)
    return _metadata(files) is not None or any(_has_pictures(each, depth=0) for each in folders)


def _of_folder(folder: Path, split: str) -> Table:
    """The pictures below a folder, whose labels are a table's or the names of their folders."""
    files, folders = _entries(folder)
    if (metadata := _metadata(files)) is not None:
        return Table(load_file(metadata)["train"], folder, split)
    if pictures := [file for file in files if is_picture(file)]:
        raise ConfigError(
            f"{folder} holds pictures without a class, such as {pictures[0].name}; give each class a folder, or add "
            f"metadata.csv with the columns file_name and label."
        )
    paths: list[str] = []
    labels: list[str] = []
    for each in folders:
        inside, deeper = _entries(each)
        found = [str(file) for file in inside if is_picture(file)]
        if lost := [below for below in deeper if _has_pictures(below, depth=1)]:
            raise ConfigError(
                f"{lost[0]} holds pictures and lies too deep: expected {folder}/CLASS/PICTURE, or "
                f"{folder}/train/CLASS/PICTURE for data that is divided."
            )
        paths += found
        labels += [each.name] * len(found)
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("string")})
    return Table(datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features), folder, split)


def _nothing(path: Path, files: list[Path], folders: list[Path]) -> str:
    names = [each.name for each in [*folders, *files]]
    if not names:
        return f"{path} is empty; expected a folder of pictures for each class, or a table of them."
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{path} holds no pictures (such as .png or .jpg) and no table (such as .csv); it holds {some}."
