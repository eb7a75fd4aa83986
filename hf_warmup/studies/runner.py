"""The one machinery of studies: plan, run what is missing, store, collect.

A study is handed over as a list of runs, a function that makes one run and a function that summarises all. Several
processes, on one machine or many that share a disk, may work on the same study: each run is made by whoever holds its
lock, and everybody ends with the same results. Deliberately absent: what is trained.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from accelerate import PartialState

from hf_warmup.records.files import Record
from hf_warmup.records.provenance import versions
from hf_warmup.studies.folder import (
    claim_folder,
    forget_failures,
    is_settled,
    read_provenance,
    read_run,
    run_lock,
    store_run,
    sweep,
)
from hf_warmup.training.accelerator import decide


# Seconds between two messages to processes that wait for the main one, far below the patience of any backend.
WAIT_SECONDS = 30.0
_END = -1


class Cell(Protocol):
    """One run of a study."""

    @property
    def name(self) -> str:
        """File name of its records, without suffix."""

    @property
    def pair(self) -> tuple[str, int]:
        """Task and seed: the runs with the same two are compared with each other."""

    @property
    def num_updates(self) -> int:
        """Its length."""

    def describe(self, record: Record) -> str:
        """What a person wants to know of one of its records, in a few words."""


C = TypeVar("C", bound=Cell)
# Told of each stored record and of what other processes do, on the main process.
OnRecord = Callable[[C, Record], None]
# Reads the records of a complete run.
Reader = Callable[[C], list[Record]]


def nothing_follows(cells: Sequence[C], records_of: Reader[C]) -> tuple[list[C], str]:
    """No further runs: all of a study's runs are known from the beginning."""
    return [], ""


@dataclass(frozen=True)
class Study(Generic[C]):
    """What the runner needs to know of a study.

    Attributes:
        name: of the study.
        config: the study as a person wrote it; seeds may be added to a folder later, nothing else may change.
        cells: the runs that are known before anything has run.
        run: makes the records of a run; it goes on from the run's checkpoint in the study's folder.
        summarise: what `results.json` says of all runs, given a function that reads a run's records.
        follow: the further runs that complete ones call for, and what a person wants to know of that. It depends on
            the runs' records alone, so that a killed study goes on with the same runs.
    """

    name: str
    config: Record
    cells: list[C]
    run: Callable[[C, Path], Iterator[Record]]
    summarise: Callable[[Sequence[C], Reader[C]], Record]
    follow: Callable[[Sequence[C], Reader[C]], tuple[list[C], str]] = nothing_follows


def ignore(cell: C, record: Record) -> None:
    """Do nothing with a record."""


def run_study(
    study: Study[C], folder: Path, *, shard: tuple[int, int] = (1, 1), on_record: OnRecord[C] = ignore
) -> Record | None:
    """Run what is missing of a study.

    Args:
        study: what to run.
        folder: where its results go; a study that was interrupted there goes on.
        shard: (i, n): every n-th pair of task and seed, beginning with the i-th, 1-based.
        on_record: see `run_missing`.

    Returns:
        The results on the main process; None on others, and while runs of other shards are missing.

    Raises:
        ConfigError: if `folder` holds another study, or a setting cannot be used.
    """
    begin_study(study, folder)
    whole = run_rounds(study, folder, shard=shard, on_record=on_record)
    return None if whole is None else collect(whole, folder)


def run_rounds(
    study: Study[C], folder: Path, *, shard: tuple[int, int] = (1, 1), on_record: OnRecord[C] = ignore
) -> Study[C] | None:
    """As `run_study`; gives the study with all runs that it came to, None while runs of other shards are missing."""
    claim_study(study, folder)
    while True:
        run_missing(study, folder, shard=shard, on_record=on_record)
        if missing(study.cells, folder):
            return None
        further, _ = grow(study, folder)
        if further is None:
            return study
        study = further


def begin_study(study: Study[C], folder: Path) -> None:
    """Claim `folder` for a study, whose failed runs are tried again."""
    claim_study(study, folder)
    decide(partial(forget_failures, folder))


def claim_study(study: Study[C], folder: Path) -> None:
    """Claim `folder` for a study, and compute with as many threads as it states; raises as `claim_folder`."""
    claim_folder({key: value for key, value in study.config.items() if key != "seeds"}, folder)
    compute_as_stated(study)


def compute_as_stated(study: Study[C]) -> None:
    """Compute with as many threads as the study states, if it does."""
    if threads := study.config.get("threads"):
        torch.set_num_threads(threads)
        # For what runs start as processes of their own.
        os.environ["OMP_NUM_THREADS"] = str(threads)


def of_shard(cells: list[C], shard: tuple[int, int]) -> list[C]:
    """A shard's runs: those of every n-th pair, so that what is compared is computed by one machine."""
    index, count = shard
    pairs = list(dict.fromkeys(cell.pair for cell in cells))[index - 1 :: count]
    return [cell for cell in cells if cell.pair in pairs]


def missing(cells: list[C], folder: Path) -> list[C]:
    """Those runs that are neither complete nor failed; the main process decides."""
    return decide(lambda: [cell for cell in cells if not is_settled(folder, cell.name)])


def grow(study: Study[C], folder: Path) -> tuple[Study[C] | None, str]:
    """The study with the runs that follow from its complete ones, and words on them; None where no run follows."""
    more, words = decide(lambda: study.follow(study.cells, partial(_records, folder)))
    return (replace(study, cells=[*study.cells, *more]) if more else None), words


def run_missing(
    study: Study[C], folder: Path, *, shard: tuple[int, int] = (1, 1), on_record: OnRecord[C] = ignore
) -> None:
    """Run a shard's missing runs, and wait for those that other processes are making.

    Args:
        study, folder, shard: see `run_study`.
        on_record: called with each record of a run made here, and with what is not stored: "held" by a `holder`,
            "waiting" for a run that is held, and "elsewhere", a run completed by another process. The last record of a
            run may be "failed", with its `reason` and its last `lines`: it then counts as one without a score, until
            the next start.
    """
    if PartialState().is_main_process:
        sweep(folder, [cell.name for cell in study.cells])
    cells = missing(of_shard(study.cells, shard), folder)
    with closing(_turns(cells, folder, on_record)) as turns:
        while (turn := decide(partial(next, turns, _END))) != _END:
            if turn is not None:
                cell = cells[turn]
                store_run(folder, cell.name, study.run(cell, folder), on_record=partial(on_record, cell))


def _turns(cells: list[C], folder: Path, on_record: OnRecord[C]) -> Generator[int | None, None, None]:
    """Numbers of the runs to make, each locked until the next is asked for; None to wait a while for others."""
    left, told = dict(enumerate(cells)), set()
    while left:
        waits = True
        for index, cell in list(left.items()):
            lock = run_lock(folder, cell.name)
            if not lock.acquire():
                if index not in told:
                    told.add(index)
                    on_record(cell, {"kind": "held", "holder": lock.holder()})
                continue
            waits = False
            del left[index]
            try:
                if is_settled(folder, cell.name):
                    on_record(cell, {"kind": "elsewhere"})
                else:
                    yield index
            finally:
                lock.release()
        if left and waits:
            cell = next(iter(left.values()))
            on_record(cell, {"kind": "waiting"})
            lock = run_lock(folder, cell.name)
            lock.acquire(wait=WAIT_SECONDS)
            lock.release()
            yield None


def collect(study: Study[C], folder: Path) -> Record | None:
    """A study's results from its complete runs, on the main process; the same runs give the same document."""
    if not PartialState().is_main_process:
        return None
    return {
        "format": 1,
        "name": study.name,
        "config": study.config,
        "versions": versions(),
        **read_provenance(folder),
        **study.summarise(study.cells, partial(_records, folder)),
    }


def _records(folder: Path, cell: Cell) -> list[Record]:
    return read_run(folder, cell.name)
