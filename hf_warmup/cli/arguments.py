"""What several commands take: a YAML with overrides, a data set's copy and a folder to fill."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from hf_warmup.errors import ConfigError


if TYPE_CHECKING:
    from hf_warmup.data.config import DataConfig


DEFAULTS = Path(__file__).parents[1] / "studies" / "defaults"

Shard = Annotated[
    str, typer.Option(help="Run share i of n: every n-th pair of task and seed. All shares use the same --out.")
]
Data = Annotated[str | None, typer.Option(help="A copy of the data set. Without it, the Hub's own is used.")]

Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to prove. auto takes a GPU if there is one."),
]
BatchSize = Annotated[
    str,
    typer.Option(metavar="N|auto", help="Images at a time. auto takes as many as fit into memory (a power of two)."),
]
Split = Annotated[str, typer.Option(help="Split of the data set.")]
Examples = Annotated[int | None, typer.Option(min=1, help="Only EXAMPLES images, drawn by a fixed seed.")]
Weights = Annotated[
    Path | None, typer.Option(help="Safetensors file with the weights of the nn.Module that FUNCTION makes.")
]
Subset = Annotated[str | None, typer.Option(help="Which configuration of a Hub data set, where it has several.")]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column that holds the images. Where only one can be it, it is found.")
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column that holds the labels. By default label, or the only other column.")
]
MatchClasses = Annotated[
    Literal["name", "number"] | None,
    typer.Option(help="How classes of model and data are matched. By default by names, where both have them."),
]

RadiusExamples = Annotated[
    int | None,
    typer.Option(min=1, help="Images whose largest radius is looked for, drawn by a fixed seed. By default all."),
]


def columns_of(image_column: str | None, label_column: str | None, match_classes: str | None) -> dict[str, str | None]:
    """How a table of pictures is read, by the keys of `DataConfig`."""
    return {"image_column": image_column, "label_column": label_column, "match_classes": match_classes}


def read_data(
    name: str, split: str, examples: int | None, columns: Mapping[str, str | None] | None = None
) -> "DataConfig":
    """The images that a command is about.

    Args:
        name: "digits", Hub name, folder or file.
        split: its part.
        examples: only so many, drawn by a fixed seed.
        columns: `subset`, `image_column`, `label_column` and `match_classes`.

    Raises:
        ConfigError: for options that do not fit together.
    """
    from hf_warmup.data.config import DataConfig

    try:
        return DataConfig(name=name, test_split=split, test_examples=examples, **(columns or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def read_certified(
    data: Mapping[str, str | None], count: int, place: str | None, columns: Mapping[str, str | None]
) -> "DataConfig":
    """The images that a certificate is about.

    Args:
        data: `name`, `split` and perhaps `subset`, as the certificate has them.
        count: of its images.
        place: a copy of the data set, or another name of it; None for the certificate's own.
        columns: as in `read_data`, without `subset`.

    Raises:
        ConfigError: as `read_data`.
    """
    subset = data.get("subset")
    # A copy may hold the subset alone; its name means nothing there.
    folder = place if subset is not None and place is not None and Path(place).exists() else None
    name, split = place or str(data["name"]), str(data["split"])
    return read_data(name, split, count, {**columns, "subset": subset, "folder": folder})


def split_arguments(arguments: list[str] | None, *, default: Path) -> tuple[Path, tuple[str, ...]]:
    """The YAML, if the first argument is one, and the overrides."""
    values = list(arguments or [])
    config = Path(values.pop(0)) if values and "=" not in values[0] else default
    return config, tuple(values)


def writable(out: Path | None) -> Path | None:
    """`out` as it is; nothing is made.

    Raises:
        ConfigError: if `out`, or the nearest folder above it that exists, is a file or cannot be written to.
    """
    if out is None:
        return None
    try:
        place = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"--out {out}: no such folder can be made ({error.strerror}); name another.") from None
    if not place.is_dir():
        raise ConfigError(f"--out {out}: {place} is a file, not a folder; name another folder.")
    try:
        # Try it with a file without a name: permissions let root write everywhere, and yet /proc refuses.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {out}: {place} cannot be written to ({error.strerror}); name another folder."
        ) from None
    return out


# Behind `writable`, which checks it.
Out = Annotated[
    Path | None, typer.Option(callback=writable, help="Folder for results; runs/NAME by default. Run again to go on.")
]


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n".

    Raises:
        ConfigError: unless 1 <= i <= n.
    """
    index, _, count = text.partition("/")
    if not (text.isascii() and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--shard must be i/n with 1 <= i <= n, such as 1/4; got {text!r}.")
    return int(index), int(count)


def parse_batch_size(text: str) -> int | None:
    """The images at once; None for "auto".

    Raises:
        ConfigError: for anything else than a whole number from 1 on.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ConfigError(f"--batch-size must be a whole number from 1 on, or auto; got {text!r}.")
    return int(text)
