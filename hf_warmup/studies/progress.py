"""A study on the terminal: what is to be done, a bar, a line for each run, and what other processes do."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hf_warmup.records.files import Record
from hf_warmup.studies.jobs import Crew
from hf_warmup.studies.on_ray import Cluster
from hf_warmup.studies.runner import (
    C,
    Cell,
    OnRecord,
    Study,
    begin_study,
    collect,
    grow,
    missing,
    nothing_follows,
    of_shard,
    run_missing,
)


# Runs that are described at once.
_SHOWN = 3


def show_study(
    study: Study[C],
    folder: Path,
    console: Console,
    *,
    shard: tuple[int, int] = (1, 1),
    workers: Crew[C] | Cluster[C] | None = None,
) -> Record | None:
    """As `run_study`, with everything shown on a console, and with the help of workers, if there are any."""
    begin_study(study, folder)
    while True:
        _show_missing(study, folder, console, shard, workers)
        absent = missing(study.cells, folder)
        if absent:
            console.print(f"{len(absent)} runs of other shards are still missing; {_who_goes_on(study)}")
            return None
        further, words = grow(study, folder)
        if words:
            console.print(words, soft_wrap=True)
        if further is None:
            return collect(study, folder)
        study = further


def _who_goes_on(study: Study[C]) -> str:
    if study.follow is nothing_follows:
        return "the last shard to finish writes the report."
    return "what comes next depends on them: start each shard again once they are there."


def _show_missing(
    study: Study[C], folder: Path, console: Console, shard: tuple[int, int], workers: Crew[C] | Cluster[C] | None
) -> None:
    cells = of_shard(study.cells, shard)
    to_do = missing(cells, folder)
    processes = f" on {PartialState().num_processes} processes" if PartialState().num_processes > 1 else ""
    already = f", {len(cells) - len(to_do)} of them done already" if len(to_do) < len(cells) else ""
    console.print(f"{study.name}: {len(cells)} runs into {folder}{processes}{already}")
    if not to_do:
        # Nothing to show; what a kill left behind is still removed.
        run_missing(study, folder, shard=shard)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        crew = workers if isinstance(workers, Crew) else None
        display: _Display = _Display(bar, to_do, crew)
        if isinstance(workers, Cluster):
            workers.run_missing(study, folder, shard=shard, on_record=display)
            return
        if crew:
            crew.on_record = display
            crew.ensure(len(to_do))
        run_missing(study, folder, shard=shard, on_record=partial(_show_own, display, crew))


def _show_own(display: OnRecord[C], crew: Crew[C] | None, cell: C, record: Record) -> None:
    display(cell, record)
    if crew and record["kind"] == "result":
        crew.fill_gpus()


def make_console(*, stderr: bool = False) -> Console:
    """Standard output of the main process, or its standard error; silent on others."""
    return Console(quiet=not PartialState().is_main_process, highlight=False, stderr=stderr)


class _Display:
    """Shows each record of a study on a bar that counts updates, of this process and of its crew."""

    def __init__(self, bar: Progress, cells: Sequence[Cell], crew: Crew[Any] | None) -> None:
        self._bar, self._crew, self._lock = bar, crew, RLock()
        # Runs of unknown length count as one each, and so do all others beside them.
        self._in_updates = all(cell.num_updates for cell in cells)
        self._left = {cell.name: cell.num_updates if self._in_updates else 1 for cell in cells}
        self._task = bar.add_task("", total=sum(self._left.values()))
        self._behind = 0
        # Of each run that is going on: its updates so far, what is said of it, and its last evaluation.
        self._running: dict[str, tuple[int, str]] = {}
        self._notes: dict[str, str] = {}

    def __call__(self, cell: Cell, record: Record) -> None:
        with self._lock:
            if cell.name in self._left:
                self._show(cell, record)

    def _show(self, cell: Cell, record: Record) -> None:
        kind = record["kind"]
        if kind == "step":
            text = " ".join(part for part in (cell.describe(record), self._notes.get(cell.name)) if part)
            self._running[cell.name] = record["step"] if self._in_updates else 0, text
            self._update()
        elif kind == "evaluation":
            self._notes[cell.name] = cell.describe(record)
        elif kind == "held" and not self._is_ours(record["holder"]):
            self._say(f"{cell.name}: {record['holder']} is running it; going on with other runs")
        elif kind == "waiting" and not self._running:
            self._bar.update(self._task, description=f"waiting for {cell.name}")
        elif kind == "lost":
            self._say(f"{cell.name}: lost with its node or process ({record['reason']}); it runs again")
            self._running.pop(cell.name, None)
            self._update()
        elif kind in ("result", "elsewhere", "failed"):
            self._say(f"{cell.name}: {_outcome(cell, record)}")
            self._behind += self._left.pop(cell.name)
            self._running.pop(cell.name, None)
            self._update()

    def _is_ours(self, holder: str) -> bool:
        return self._crew is not None and holder in self._crew.holders()

    def _update(self) -> None:
        texts = [text for _, text in self._running.values()]
        more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        self._bar.update(
            self._task,
            completed=self._behind + sum(step for step, _ in self._running.values()),
            description=" | ".join(texts[:_SHOWN]) + more,
        )

    def _say(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _outcome(cell: Cell, record: Record) -> str:
    if record["kind"] == "failed":
        return "\n  ".join(
            ["failed; it counts as a run without a score, and is tried again next time", *record["lines"]]
        )
    return cell.describe(record) if record["kind"] == "result" else "done by another process"
