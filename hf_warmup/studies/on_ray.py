"""Runs on a Ray cluster: each is a task with its resources, whose records come back to the process that stores them.

So no folder is shared. A run that is lost with its node, or with its process, begins again elsewhere; when the storing
process ends, Ray ends the tasks, and the same command goes on with the runs that are missing. Deliberately absent: how
a cluster is made, and data on its nodes, which load the study's data as this machine does.
"""

import logging
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, Generic

from accelerate import PartialState

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.records.files import Record, write_bytes
from hf_warmup.records.provenance import forget_peak_memory, place_of_run, versions
from hf_warmup.studies.folder import checkpoint_path, run_lock, run_path, store_run, sweep
from hf_warmup.studies.runner import C, OnRecord, Study, compute_as_stated, ignore, missing, of_shard


logger = logging.getLogger(__name__)

# Runs that are asked for at once; a cluster that grows by itself sees as many waiting.
_AT_ONCE = 256
# How often a run may be lost before the cluster is to blame.
_ATTEMPTS = 5
# Seconds without a finished run after which it is asked whether any node could make one.
_PATIENCE = 30.0
# Seconds of records that come back together.
_BATCH = 0.5


class Cluster(Generic[C]):
    """A Ray cluster that makes a study's runs.

    Args:
        make_study: gives the study on each node, a function that can be pickled.
        address: of the cluster, as `ray.init` takes it; "auto" is the one that this machine belongs to.
        threads: CPUs of a run.
        gpus_per_run: may be a fraction; without any, runs see no GPU.

    Raises:
        ConfigError: if Ray is not installed, the cluster cannot be reached, or a launcher has started processes.
    """

    def __init__(
        self, make_study: Callable[[], Study[C]], address: str, *, threads: int, gpus_per_run: float = 0.0
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError('--ray needs Ray, which is not installed: pip install "hf-warmup[ray]".') from None
        if PartialState().num_processes > 1:
            raise ConfigError("--ray gives each run to one process; start the command without a launcher.")
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except Exception as error:  # Ray raises several kinds, all of which mean: cannot be reached
            raise ConfigError(
                f"no Ray cluster can be reached at {address!r} ({first_line(error)}); start one by `ray start --head`."
            ) from None
        self._ray: Any = ray
        self._study = pickle.dumps(make_study)
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus_per_run, max_retries=0, num_returns="streaming")(
            _make_run
        )
        self._needs = {"CPU": float(threads), "GPU": gpus_per_run}
        self._going: set[Any] = set()
        self._lock, self._stopped = Lock(), Event()

    def __enter__(self) -> "Cluster[C]":
        return self

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    def run_missing(
        self, study: Study[C], folder: Path, *, shard: tuple[int, int] = (1, 1), on_record: OnRecord[C] = ignore
    ) -> None:
        """As `runner.run_missing`, on the cluster; `on_record` is called from threads, also with "lost" runs."""
        sweep(folder, [cell.name for cell in study.cells])
        cells = missing(of_shard(study.cells, shard), folder)
        if not cells:
            return
        with ThreadPoolExecutor(max_workers=min(len(cells), _AT_ONCE)) as pool:
            runs = [pool.submit(self._complete, cell, folder, partial(on_record, cell)) for cell in cells]
            try:
                waiting, told = set(runs), ""
                while waiting:
                    done, waiting = wait(waiting, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
                    for run in done:
                        run.result()
                    told = told if done else self._tell_of_need(told)
            except BaseException:
                self._stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tell_of_need(self, told: str) -> str:
        """Say in one line, if it was not `told`, that runs wait for a node that the cluster does not have."""
        need = unmet(self._needs, [node["Resources"] for node in self._ray.nodes() if node["Alive"]])
        if need and need != told:
            logger.warning("%s; runs wait until such a node joins (Ctrl-C keeps what is complete).", need)
        return need

    def _stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for going in self._going:
                self._ray.cancel(going, force=True)

    def _complete(self, cell: C, folder: Path, on_record: Callable[[Record], None]) -> None:
        """Have a run made, as often as it takes, and store it."""
        lock = run_lock(folder, cell.name)
        while not lock.acquire(wait=1.0):
            if self._stopped.is_set():
                return None
        try:
            if run_path(folder, cell.name).exists():
                return on_record({"kind": "elsewhere"})
            for _ in range(_ATTEMPTS):
                # A checkpoint of this machine is of no use on another.
                shutil.rmtree(checkpoint_path(folder, cell.name), ignore_errors=True)
                place: Record = {}
                try:
                    return store_run(
                        folder,
                        cell.name,
                        self._records(cell, folder, place),
                        on_record=on_record,
                        place=partial(dict, place),
                    )
                except self._ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from None
                except self._ray.exceptions.RayError as error:
                    if self._stopped.is_set():
                        return None
                    reason = first_line(error)
                    on_record({"kind": "lost", "reason": reason})
            raise ConfigError(f"{cell.name} was lost {_ATTEMPTS} times, at last by {reason}; look at the cluster.")
        finally:
            lock.release()

    def _records(self, cell: C, folder: Path, place: Record) -> Iterator[Record]:
        """A run's records as they come; what it left in its own folder, and where it ran, are taken over."""
        going = self._task.options(name=cell.name).remote(self._study, cell, versions())
        with self._lock:
            self._going.add(going)
        try:
            for reference in going:
                batch, files, found = self._ray.get(reference)
                place.update(found)
                for name, content in files.items():
                    write_bytes(folder / name, content)
                yield from batch
        finally:
            with self._lock:
                self._going.discard(going)


def unmet(needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """That no node has what a run needs, in words; empty if one has it all."""
    if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes):
        return ""
    wanted = " and ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount)
    most = ", ".join(f"{max((node.get(name, 0.0) for node in nodes), default=0.0):g} {name}" for name in needs)
    return f"no node of the Ray cluster has {wanted} for a run (nodes alive: {len(nodes)}; the most of one: {most})"


@lru_cache(maxsize=1)
def _study_of(pickled: bytes) -> Study[Any]:
    # From this study's own start, through Ray, which runs whatever its owners send.
    study: Study[Any] = pickle.loads(pickled)()
    compute_as_stated(study)
    return study


def _make_run(pickled: bytes, cell: Any, wanted: Record) -> Iterator[tuple[list[Record], dict[str, bytes], Record]]:
    """On a node: records in batches, with the last one the files of the run; and where it runs, with each."""
    present = versions()
    if different := ", ".join(
        f"{name} {present[name]}, not {wanted[name]}" for name in wanted if present[name] != wanted[name]
    ):
        raise ConfigError(f"a node of the cluster has {different}; results would differ. Install the same everywhere.")
    study = _study_of(pickled)
    forget_peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        batch: list[Record] = []
        sent = time.monotonic()
        for record in study.run(cell, Path(folder)):
            batch.append(record)
            if time.monotonic() > sent + _BATCH and record["kind"] not in ("result", "failed"):
                yield batch, {}, place_of_run()
                batch, sent = [], time.monotonic()
        *earlier, last = batch
        yield earlier, {}, place_of_run()
        # Before the last record, by which the run counts as complete, or as failed.
        yield [last], _files(Path(folder)), place_of_run()


def _files(folder: Path) -> dict[str, bytes]:
    """What a run has left behind, but for its checkpoints."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(name): (folder / name).read_bytes() for name in names if name.parts[0] != "checkpoints"}
