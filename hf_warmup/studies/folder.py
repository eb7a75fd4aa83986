"""A study's folder: claimed for one study; a run's file has its final name only when the run is complete.

So a killed study, started again, goes on where it was. Deliberately absent: what a run is.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from accelerate import PartialState

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, RecordFile, read_json, read_lines, write_json
from hf_warmup.records.provenance import commit, forget_peak_memory, hardware, peak_memory
from hf_warmup.training.checkpoints import latest_checkpoint


def run_path(folder: Path, name: str) -> Path:
    """Where a run's records stand when it is complete."""
    return folder / "cells" / f"{name}.jsonl"


def cost_path(folder: Path, name: str) -> Path:
    """Where it stands what a run took, on what hardware and by which code."""
    return folder / "timings" / f"{name}.json"


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
    cost = _Cost(cost_path(folder, name))
    try:
        for record in records:
            cost.steps += record["kind"] == "step"
            if file is not None:
                file.append(record)
                if record["kind"] == "evaluation":
                    cost.write()
            on_record(record)
        if file is not None:
            cost.write()
            file.seal()
    finally:
        if file is not None:
            file.close()
    PartialState().wait_for_everyone()
    if is_main:
        shutil.rmtree(checkpoint_path(folder, name), ignore_errors=True)


class _Cost:
    """What a run took, where and by which code, in a file: one part for each time that it was started."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = read_json(path).get("parts", []) if path.exists() else []
        self._started = time.perf_counter()
        self.steps = 0
        forget_peak_memory()

    def write(self) -> None:
        """Bring the file up to date."""
        part = {
            "seconds": time.perf_counter() - self._started,
            "steps": self.steps,
            "hardware": hardware(),
            "peak_memory_bytes": peak_memory(),
            "commit": commit(),
        }
        parts = [*self._earlier, part]
        total = {key: sum(each[key] for each in parts) for key in ("seconds", "steps")}
        write_json(self._path, {**total, "parts": parts})


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
    """What each run took, by its name: `seconds` and `steps` of all its `parts`, up to each one's last evaluation."""
    return {path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))}


def read_provenance(folder: Path) -> dict[str, str | None]:
    """`hardware` and `commit` of a study's runs, each once; None where it is not known."""
    parts = [part for timing in read_timings(folder).values() for part in timing.get("parts", [])]
    found = {key: sorted({part[key] for part in parts if part[key]}) for key in ("hardware", "commit")}
    return {key: "; ".join(values) or None for key, values in found.items()}
