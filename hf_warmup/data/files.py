"""Files of rows that people have: CSV, JSON lines, Parquet and plain text, as `datasets` reads them."""

from pathlib import Path
from typing import Any

import datasets

from hf_warmup.errors import ConfigError


# What datasets calls the formats of files, by the end of a file's name.
FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".txt": "text"}


def load_file(path: Path) -> Any:
    """A file's rows, a `DatasetDict` that calls them train.

    Raises:
        ConfigError: for a file of another format.
        Exception: of many kinds, for a file that is not what its name says.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"a file must end in one of {', '.join(FORMATS)}, got {path.name}")
    options = {"sep": "\t"} if path.suffix.lower() == ".tsv" else {}
    return datasets.load_dataset(kind, data_files={"train": str(path)}, **options)
