"""Runs side by side on one machine: further processes that work on the same folder, whatever the study is.

Each run belongs to the process that holds its lock, as if the command had been started several times. So the number
of processes changes nothing of a result, given the number of threads that each of them computes with: a study that is
run in this way states it. Deliberately absent: other machines (a shared folder and `--shard`).
"""

import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import PartialState
from joblib import cpu_count

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.runner import C, OnRecord, Study, ignore, run_rounds
from hf_warmup.yaml_config import validate


Stated = TypeVar("Stated", StudyConfig, CertifiedStudyConfig)


# Seconds between two steps of a run of which another process hears.
_TELL_EVERY = 0.2
# Seconds in which a process that is asked to end may do so by itself.
_PATIENCE = 5.0
# What a process needs of a GPU's memory beside its tensors, in bytes, and how much of what is free may be given away.
_CONTEXT, _SHARE = 700 * 2**20, 0.9


def number_of_jobs(asked: int | str | None, threads: int | None) -> int:
    """Processes to run at once; see `Crew`."""
    launched = PartialState().num_processes
    if launched > 1:
        if isinstance(asked, int) and asked > 1:
            raise ConfigError(
                f"--jobs {asked} runs several cells at once, and the launcher's {launched} processes share one cell; "
                f"use one of the two."
            )
        return 1
    if isinstance(asked, int) or threads is None:
        return int(asked or 1)
    return torch.cuda.device_count() or max(1, cpu_count() // threads)


def state_threads(study: Stated, folder: Path, *, asked: bool) -> Stated:
    """The study with its runs' number of threads: its own, else its folder's, else one if jobs are asked for.

    Args:
        study: as it was read; its `threads` may be None.
        folder: of its results, which may hold a part of it.
        asked: whether a person asks for jobs.

    Raises:
        ConfigError: if jobs are asked for and `folder` was begun without any number of threads.
    """
    path = folder / "study.json"
    begun = read_json(path) if path.is_file() else None
    stored = begun.get("threads") if isinstance(begun, dict) else None
    if begun is not None and stored is None and study.threads is None and asked:
        raise ConfigError(
            f"{folder} was begun without --jobs, on as many threads a run as torch chose, and other numbers of "
            f"threads round in another way. Leave --jobs out, or choose another --out."
        )
    threads = study.threads or stored or (1 if asked else None)
    return study if threads == study.threads else validate(type(study), {**dict(study), "threads": threads}, str(path))


def runs_that_fit(free: int, peak: int) -> int:
    """Further processes for which a GPU has room.

    Args:
        free: its free memory in bytes.
        peak: the most that a run's tensors took, in bytes.
    """
    return int(_SHARE * free // (peak + _CONTEXT))


class Crew(Generic[C]):
    """The further processes; they end with the one that has started them, however that ends.

    Args:
        make_study: gives the study in each process, a function that can be pickled.
        folder: the study's.
        jobs: processes at once, this one included, or "auto" for what the machine has room for: its cores over
            `threads`, or its GPUs, to which more come once the memory of a run is known. None is "auto" where the
            study states its threads, else 1.
        threads: that each run computes with; None for a study that states none.
        shard: as in `run_study`.

    Attributes:
        on_record: told, from threads, of each record of the others' runs, though not of every update.

    Raises:
        ConfigError: for several jobs where a launcher has started several processes, which share each run.
    """

    def __init__(
        self,
        make_study: Callable[[], Study[C]],
        folder: Path,
        *,
        jobs: int | str | None,
        threads: int | None,
        shard: tuple[int, int] = (1, 1),
    ) -> None:
        self._work = partial(_work, make_study, folder, shard)
        self._size = number_of_jobs(jobs, threads)
        self._fill = not isinstance(jobs, int) and threads is not None and torch.cuda.is_available()
        self._processes: list[BaseProcess] = []
        self.on_record: OnRecord[C] = ignore

    def __enter__(self) -> "Crew[C]":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception == (None, None, None):
            # All runs are there: they are about to end by themselves.
            for process in self._processes:
                process.join(_PATIENCE)
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def holders(self) -> set[str]:
        """The others, as their locks name them."""
        return {f"process {process.pid} on {platform.node()}" for process in self._processes}

    def ensure(self, runs: int) -> None:
        """Start processes until there are enough for so many runs."""
        alive = [process for process in self._processes if process.is_alive()]
        for index in range(1 + len(alive), min(self._size, runs)):
            self._start(index)

    def fill_gpus(self) -> None:
        """After a run of this process: add the processes for which the GPUs have room, once."""
        if not self._fill:
            return
        self._fill = False
        peak, gpus = torch.cuda.max_memory_reserved(), torch.cuda.device_count()
        for gpu in range(gpus):
            for _ in range(min(runs_that_fit(torch.cuda.mem_get_info(gpu)[0], peak), cpu_count() // gpus - 1)):
                self._size += 1
                self._start(gpu)

    def _start(self, index: int) -> None:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=self._work, args=(sender,), daemon=False)
        with _on_gpu(index):
            process.start()
        sender.close()
        self._processes.append(process)
        threading.Thread(target=self._listen, args=(receiver,), daemon=True).start()

    def _listen(self, receiver: Connection) -> None:
        while True:
            try:
                cell, record = receiver.recv()
            except (EOFError, OSError):
                return
            self.on_record(cell, record)


@contextmanager
def _on_gpu(index: int) -> Iterator[None]:
    """Processes that are started within see one GPU only, in turn."""
    count, before = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if count < 1:
        yield
        return
    visible = before.split(",") if before else [str(gpu) for gpu in range(count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[index % count]
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _work(make_study: Callable[[], Study[C]], folder: Path, shard: tuple[int, int], sender: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal; the first one then ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run_rounds(make_study(), folder, shard=shard, on_record=_Teller(sender))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Teller:
    """Sends records through a pipe: all but most updates, and nothing of what other processes do."""

    def __init__(self, sender: Connection) -> None:
        self._sender, self._told = sender, 0.0

    def __call__(self, cell: Any, record: Record) -> None:
        kind, now = record["kind"], time.monotonic()
        if kind in ("held", "waiting", "elsewhere") or (kind == "step" and now < self._told + _TELL_EVERY):
            return
        self._told = now
        self._sender.send((cell, record))
