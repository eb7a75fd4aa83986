"""A study's folder: claimed for one study; a run's file has its final name only when the run is complete.

So a killed study, started again, goes on where it was. Deliberately absent: what a run is.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from accelerate import PartialState

from hf_warmup.checkpoints import latest_checkpoint
from hf_warmup.errors import ConfigError
from hf_warmup.records import Record, RecordFile, read_json, read_lines, write_json


def run_path(folder: Path, name: str) -> Path:
    """Where a run's records stand when it is complete."""
    return folder / "cells" / f"{name}.jsonl"


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a run's checkpoints stand until it is complete."""
    return folder / "checkpoints" / name


def claim_folder(wanted: Record, folder: Path) -> None:
    """Write down what `folder` is for, or check that it is for the same.

    Raises:
        ConfigError: if it holds another study, naming what differs.
    """
    path = folder / "study.json"
    if path.exists():
        present = read_json(path)
        different = sorted(key for key in wanted.keys() | present.keys() if wanted.get(key) != present.get(key))
        if different:
            raise ConfigError(
                f"{folder} holds a study with other settings ({', '.join(different)}); choose another --out, or "
                f"remove the folder."
            )
    elif PartialState().is_main_process:
        write_json(path, wanted)
    PartialState().wait_for_everyone()


def store_run(folder: Path, name: str, records: Iterable[Record], *, on_record: Callable[[Record], None]) -> None:
    """Write a run's records as they come, seal them, and remove its checkpoints.

    Args:
        folder: the study's.
        name: the run's.
        records: from a generator that goes on behind the newest of the run's checkpoints, if there is one.
        on_record: called with each record, on every process; only the main one writes.
    """
    path = run_path(folder, name)
    is_main = PartialState().is_main_process
    file = RecordFile(path, keep=_until_checkpoint(folder, name)) if is_main else None
    started = time.perf_counter()
    steps = 0
    try:
        for record in records:
            steps += record["kind"] == "step"
            if file is not None:
                file.append(record)
            on_record(record)
        if file is not None:
            seconds = time.perf_counter() - started
            write_json(folder / "timings" / f"{name}.json", {"seconds": seconds, "steps": steps})
            file.seal()
    finally:
        if file is not None:
            file.close()
    PartialState().wait_for_everyone()
    if is_main:
        shutil.rmtree(checkpoint_path(folder, name), ignore_errors=True)


def _until_checkpoint(folder: Path, name: str) -> Iterator[Record]:
    """Records of an interrupted run that its checkpoint has behind it."""
    latest = latest_checkpoint(checkpoint_path(folder, name))
    path = run_path(folder, name)
    partial = path.with_name(path.name + ".partial")
    if latest is None or not partial.exists():
        return iter(())
    # A run killed just before it was sealed has its result there already, which has no step: it is made again.
    return iter([record for record in read_lines(partial) if record.get("step", math.inf) <= latest[1]])


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove checkpoints of complete runs, which a kill just after completion leaves behind."""
    for name in names:
        if run_path(folder, name).exists():
            shutil.rmtree(checkpoint_path(folder, name), ignore_errors=True)


def read_timings(folder: Path) -> Record:
    """Seconds and steps of each run, by its name; of a resumed run, those of its last part."""
    return {path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))}


def versions() -> dict[str, str]:
    """Versions of this package and of what results may depend on."""
    return {name: version(name) for name in ("hf-warmup", "torch", "transformers", "accelerate", "datasets")}
