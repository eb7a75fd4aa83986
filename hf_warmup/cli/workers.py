"""Who makes a study's cells: this process, several on this machine, or a Ray cluster."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_warmup.errors import ConfigError


if TYPE_CHECKING:
    from hf_warmup.studies.jobs import Crew
    from hf_warmup.studies.on_ray import Cluster


Jobs = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Make N cells at a time on this machine, each on the study's `threads` (1 if it states none). auto makes "
        "as many as the CPU has threads, or the GPU has memory for. Results are the same for every N.",
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|auto",
        help="Make the cells on a Ray cluster, each on the study's `threads` (1 if it states none). This machine "
        "stores the results.",
    ),
]
GpusPerRun = Annotated[float | None, typer.Option(help="With --ray: GPUs for each cell. A fraction is allowed.")]


@dataclass(frozen=True)
class Workers:
    """Who makes a study's cells.

    Attributes:
        jobs: processes at once on this machine, a number or "auto"; see `Crew`.
        ray: address of a Ray cluster that makes them instead.
        gpus_per_run: of each cell there.
    """

    jobs: int | str | None = None
    ray: str | None = None
    gpus_per_run: float = 0.0


# This process alone; or, where the study states its threads, as many processes as there is room for.
HERE = Workers()


def parse_workers(jobs: str | None, ray: str | None, gpus_per_run: float | None) -> Workers:
    """The workers that a person asks for.

    Raises:
        ConfigError: for values that cannot be, and options that contradict each other.
    """
    if ray is None and gpus_per_run is not None:
        raise ConfigError("--gpus-per-run goes with --ray.")
    if ray is not None and jobs is not None:
        raise ConfigError("--ray makes the cells elsewhere and --jobs here; use one of the two.")
    if gpus_per_run is not None and not 0 <= gpus_per_run < math.inf:
        raise ConfigError(f"--gpus-per-run must not be negative, got {gpus_per_run}.")
    return Workers(parse_jobs(jobs), ray, gpus_per_run or 0.0)


def parse_jobs(text: str | None) -> int | str | None:
    """A number of processes or "auto"; None as it is.

    Raises:
        ConfigError: for anything else.
    """
    if text is None or text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ConfigError(f"--jobs must be a whole number from 1 on, or auto; got {text!r}.")
    return int(text)


def engage(
    workers: Workers,
    make_study: Callable[[], Any],
    folder: Path,
    *,
    threads: int | None,
    shard: tuple[int, int] = (1, 1),
) -> "Crew[Any] | Cluster[Any]":
    """The processes or nodes that help with a study until the end of a `with` block.

    Raises:
        ConfigError: see `Crew` and `Cluster`.
    """
    if workers.ray is None:
        from hf_warmup.studies.jobs import Crew

        return Crew(make_study, folder, jobs=workers.jobs, threads=threads, shard=shard)
    from hf_warmup.studies.on_ray import Cluster

    return Cluster(make_study, workers.ray, threads=threads or 1, gpus_per_run=workers.gpus_per_run)
