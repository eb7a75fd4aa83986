"""A study on the terminal: what is to be done, a bar, a line for each run, and what other processes do."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hf_warmup.records.files import Record
from hf_warmup.studies.runner import (
    C,
    Cell,
    Study,
    claim_study,
    collect,
    grow,
    missing,
    nothing_follows,
    of_shard,
    run_missing,
)


def show_study(study: Study[C], folder: Path, console: Console, *, shard: tuple[int, int] = (1, 1)) -> Record | None:
    """As `run_study`, with everything shown on a console."""
    claim_study(study, folder)
    while True:
        _show_missing(study, folder, console, shard)
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


def _show_missing(study: Study[C], folder: Path, console: Console, shard: tuple[int, int]) -> None:
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
        run_missing(study, folder, shard=shard, on_record=_Display(bar, to_do))


def make_console() -> Console:
    """Standard output of the main process; silent on others."""
    return Console(quiet=not PartialState().is_main_process, highlight=False)


class _Display:
    """Shows each record of a study on a bar that counts updates."""

    def __init__(self, bar: Progress, cells: Sequence[Cell]) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=sum(cell.num_updates for cell in cells))
        self._behind = 0
        self._note = ""

    def __call__(self, cell: Cell, record: Record) -> None:
        kind = record["kind"]
        if kind == "step":
            text = " ".join(part for part in (cell.describe(record), self._note) if part)
            self._bar.update(self._task, completed=self._behind + record["step"], description=text)
        elif kind == "evaluation":
            self._note = cell.describe(record)
        elif kind == "held":
            self._say(f"{cell.name}: {record['holder']} is running it; going on with other runs")
        elif kind == "waiting":
            self._bar.update(self._task, description=f"waiting for {cell.name}")
        elif kind in ("result", "elsewhere"):
            self._say(f"{cell.name}: {cell.describe(record) if kind == 'result' else 'done by another process'}")
            self._note = ""
            self._behind += cell.num_updates
            self._bar.update(self._task, completed=self._behind)

    def _say(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
