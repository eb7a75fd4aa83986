"""A study's folder: claimed for one study; a run's file has its final name only when the run is complete.

So a killed study, started again, goes on where it was. Several processes may work in one folder: each run is made by
the one that holds its lock. Deliberately absent: what a run is.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, RecordFile, read_json, read_lines, write_json
from hf_warmup.records.lock import Lock
from hf_warmup.records.provenance import forget_peak_memory, place_of_run
from hf_warmup.training.accelerator import decide
from hf_warmup.training.checkpoints import latest_checkpoint


# Seconds that a start waits for another one to claim the same folder.
CLAIM_SECONDS = 60.0
# What a study writes besides its description; a packaged checkpoint has some of it.
_OURS = ("results.json", "report.md", "report.html", "cells")


def run_path(folder: Path, name: str) -> Path:
    """Where a run's records stand when it is complete."""
    return folder / "cells" / f"{name}.jsonl"


def failure_path(folder: Path, name: str) -> Path:
    """Where it stands of a run that could not be made what its last words were, until the study is started again."""
    return folder / "failed" / f"{name}.json"


def is_settled(folder: Path, name: str) -> bool:
    """Whether a run is complete, or has failed since the study was started."""
    return run_path(folder, name).exists() or failure_path(folder, name).exists()


def forget_failures(folder: Path) -> None:
    """Let runs that failed be tried again."""
    shutil.rmtree(folder / "failed", ignore_errors=True)


def read_run(folder: Path, name: str) -> list[Record]:
    """The records of a settled run; a failed one has no score."""
    if run_path(folder, name).exists():
        return list(read_lines(run_path(folder, name)))
    failure = read_json(failure_path(folder, name))
    known = {"failed": failure.get("reason", failure["lines"][-1]), "lines": failure["lines"]}
    return [{"kind": "result", "validation": None, "test": None, "diverged": False, **known}]


def cost_path(folder: Path, name: str) -> Path:
    """Where it stands what a run took, on what hardware and by which code."""
    return folder / "timings" / f"{name}.json"


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where a run's checkpoints stand until it is complete."""
    return folder / "checkpoints" / name


def run_lock(folder: Path, name: str) -> Lock:
    """Held by the process that makes a run."""
    return Lock(folder / "locks" / f"{name}.lock")


def claim_folder(wanted: Record, folder: Path) -> None:
    """Write down what `folder` is for, or check that it is for the same.

    Raises:
        ConfigError: if it holds another study, naming what differs, or cannot be used.
    """
    decide(partial(_claim, wanted, folder))


def _claim(wanted: Record, folder: Path) -> None:
    path, lock = folder / "study.json", run_lock(folder, "study")
    # A published study has its YAML in place of study.json.
    published = folder / "study.yaml"
    strange = [name for name in _OURS if (folder / name).exists()]
    if strange and not path.exists() and not published.exists():
        raise ConfigError(
            f"{folder} holds no study, but {', '.join(strange)}, which a study would write over or take for its own; "
            f"choose another --out."
        )
    try:
        held = lock.acquire(wait=CLAIM_SECONDS)
        present = wanted
        if held and (path.exists() or strange):
            present = read_json(path) if path.exists() else _without_seeds(published)
        if held and not path.exists() and present == wanted:
            write_json(path, wanted)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror}); choose another --out.") from None
    except (ValueError, yaml.YAMLError):
        damaged = f"{path} is damaged: no JSON" if path.exists() else f"{published} is damaged: no YAML"
        raise ConfigError(f"{damaged}; choose another --out, or remove the folder.") from None
    finally:
        lock.release()
    if not held:
        raise ConfigError(f"{folder} has been held by {lock.holder()} for a minute; end that process first.")
    if not isinstance(present, dict):
        raise ConfigError(f"{path} describes no study; choose another --out, or remove the folder.")
    different = sorted(key for key in wanted.keys() | present.keys() if wanted.get(key) != present.get(key))
    if different:
        raise ConfigError(
            f"{folder} holds a study with other settings ({', '.join(different)}); choose another --out, or remove "
            f"the folder."
        )


def _without_seeds(published: Path) -> Any:
    """What study.json would hold, out of a published study's YAML."""
    found = yaml.safe_load(published.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key != "seeds"} if isinstance(found, dict) else found


def store_run(
    folder: Path,
    name: str,
    records: Iterable[Record],
    *,
    on_record: Callable[[Record], None],
    place: Callable[[], Record] = place_of_run,
) -> None:
    """Write a run's records as they come, seal them, and remove its checkpoints.

    The result says of the whole run whether it diverged and how many updates it skipped, however often it was
    interrupted. A run whose last record says that it failed keeps its checkpoints and is not sealed.

    Args:
        folder: the study's.
        name: the run's, whose lock the main process holds.
        records: from a generator that goes on behind the newest of the run's checkpoints, if there is one.
        on_record: called with each record, on the main process, which alone writes.
        place: says where the run is being made, if not in this process.
    """
    if PartialState().is_main_process:
        _store(folder, name, records, on_record, place)
    else:
        for _ in records:
            pass
    PartialState().wait_for_everyone()
    if PartialState().is_main_process and run_path(folder, name).exists():
        shutil.rmtree(checkpoint_path(folder, name), ignore_errors=True)


def _store(
    folder: Path,
    name: str,
    records: Iterable[Record],
    on_record: Callable[[Record], None],
    place: Callable[[], Record],
) -> None:
    kept = _until_checkpoint(folder, name)
    diverged, skipped = any(map(_is_diverged, kept)), sum(map(_is_skipped, kept))
    file, cost = RecordFile(run_path(folder, name), keep=kept), _Cost(cost_path(folder, name), place)
    try:
        for record in records:
            if record["kind"] == "failed":
                write_json(failure_path(folder, name), record)
                on_record(record)
                return
            diverged |= _is_diverged(record)
            skipped += _is_skipped(record)
            cost.steps += record["kind"] == "step"
            if record["kind"] == "result":
                record = {"kind": "result", "diverged": diverged, "skipped_steps": skipped, **record}
            file.append(record)
            if record["kind"] == "evaluation":
                cost.write()
            on_record(record)
        cost.write()
        file.seal()
    finally:
        file.close()


def _is_diverged(record: Record) -> bool:
    return bool(record["kind"] == "diverged")


def _is_skipped(record: Record) -> bool:
    return bool(record.get("skipped", False))


class _Cost:
    """What a run took, where and by which code, in a file: one part for each time that it was started."""

    def __init__(self, path: Path, place: Callable[[], Record]) -> None:
        self._path, self._place = path, place
        self._earlier = read_json(path).get("parts", []) if path.exists() else []
        self._started = time.perf_counter()
        self.steps = 0
        forget_peak_memory()

    def write(self) -> None:
        """Bring the file up to date."""
        part = {
            "seconds": time.perf_counter() - self._started,
            "steps": self.steps,
            **self._place(),
        }
        parts = [*self._earlier, part]
        total = {key: sum(each[key] for each in parts) for key in ("seconds", "steps")}
        write_json(self._path, {**total, "parts": parts})


def _until_checkpoint(folder: Path, name: str) -> list[Record]:
    """Records of an interrupted run that its checkpoint has behind it."""
    latest = latest_checkpoint(checkpoint_path(folder, name))
    path = run_path(folder, name)
    partial = path.with_name(path.name + ".partial")
    if latest is None or not partial.exists():
        return []
    # A run killed just before it was sealed has its result there already, which has no step: it is made again.
    return [record for record in read_lines(partial) if record.get("step", math.inf) <= latest[1]]


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
