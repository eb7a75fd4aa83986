"""`hf-warmup compare` runs a study, shows its progress, and stores results and a report in a folder."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hf_warmup.cli.arguments import DEFAULTS, Out, Shard, parse_shard, split_arguments
from hf_warmup.cli.interruption import interruptible
from hf_warmup.cli.output import AsJson, console_for, print_json, study_document
from hf_warmup.cli.workers import HERE, GpusPerRun, Jobs, Ray, Workers, engage, parse_workers
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record


if TYPE_CHECKING:
    from hf_warmup.statistics.metrics import Metric
    from hf_warmup.studies.comparison.config import StudyConfig
    from hf_warmup.studies.comparison.plan import Cell
    from hf_warmup.studies.runner import Study


def compare_and_report(
    config: Path,
    overrides: tuple[str, ...],
    *,
    out: Path | None,
    num_seeds: int | None,
    shard: tuple[int, int],
    until_decided: bool = False,
    max_seeds: int | None = None,
    workers: Workers = HERE,
    as_json: bool = False,
) -> None:
    """Run what is missing of a study and, once nothing is, write results.json and the report.

    Args:
        workers: who makes the cells.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: see `load_study`, `declare_plan`, `state_threads`, `comparison_study`, `run_study`.
    """
    from hf_warmup.studies.comparison.config import load_study
    from hf_warmup.studies.comparison.looks import declare_plan

    # Before anything imports torch: a mistake in the study is answered at once.
    read, by_hand = load_study(config, overrides=overrides, num_seeds=num_seeds), num_seeds is not None
    folder = out or Path("runs") / read.name

    from hf_warmup.report.running import judge_and_report
    from hf_warmup.studies.jobs import state_threads
    from hf_warmup.studies.progress import make_console, show_study
    from hf_warmup.training.accelerator import decide, join_processes

    join_processes()
    # Perhaps the main process alone sees the folder.
    study = decide(
        lambda: declare_plan(read, folder, until_decided=until_decided, max_seeds=max_seeds, by_hand=by_hand)
    )
    study = decide(lambda: state_threads(study, folder, asked=workers != HERE))
    make, console = partial(_make_study, study, by_hand), make_console(stderr=as_json)
    with engage(workers, make, folder, threads=study.threads, shard=shard) as helpers:
        results = show_study(make(), folder, console, shard=shard, workers=helpers)
    as_json = as_json and not console.quiet
    if results is None and as_json:
        print_json(study_document(None, folder))
    if results is not None:
        results, report = judge_and_report(results, folder)
        if as_json:
            print_json(study_document(results, folder, report=report))
            return
        _print_summary(console, results)
        console.print(f"Report: {report}")


def _make_study(study: "StudyConfig", by_hand: bool) -> "Study[Cell]":
    """What each process of a crew makes for itself."""
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.studies.comparison.study import comparison_study

    quiet_libraries()
    return comparison_study(study, by_hand=by_hand)


def _print_summary(console: Console, results: Record) -> None:
    """One table a task, one line an arm; the report has the details."""
    from hf_warmup.report.comparison import chosen_at_the_edge

    # Names are never cut: a narrow terminal breaks the lines itself.
    console.width = max(console.width, 160)
    for task in results["tasks"]:
        console.print(verdict_table(task, results["baseline"]))
        lines = [*task.get("unscored", {}).values(), task["simultaneous"], chosen_at_the_edge(task)]
        for line in filter(None, lines):
            console.print(line, highlight=False, soft_wrap=True)


def verdict_table(task: Record, baseline: str) -> Table:
    """A task's arms with score, number of seeds, difference from the baseline (95 % t interval) and verdict."""
    from hf_warmup.report.tables import word_of
    from hf_warmup.statistics.metrics import metric_of

    metric, found = metric_of(task), {verdict["arm"]: verdict for verdict in task["verdicts"]}
    looks = any(verdict["look"] for verdict in task["verdicts"])
    rates = len(task["learning_rates"]) > 1
    title = f"{task['name']}: test {metric.words}, margin ±{metric.number(task['margin'])}{metric.suffix}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    columns = ["arm", *["rate"] * rates, "mean", "n", "difference", "verdict", *["look"] * looks]
    for column in columns:
        table.add_column(column, justify="left" if column in ("arm", "verdict") else "right", no_wrap=True)
    for arm in task["arms"]:
        verdict = found.get(arm["name"])
        look = f"{verdict['look']} of {verdict['looks']}" if verdict and verdict["look"] else ""
        table.add_row(
            arm["name"],
            *[f"{arm['learning_rate']:g}"] * rates,
            "" if arm["mean"] is None else metric.number(arm["mean"]),
            str(arm["n"]),
            _difference(verdict, metric),
            word_of(baseline, task, arm["name"]),
            *[look] * looks,
        )
    return table


def _difference(verdict: Record | None, metric: "Metric") -> str:
    if verdict is None or verdict["difference"] is None:
        return ""
    ends = " to ".join(metric.number(end, sign=True) for end in verdict["t_interval"] or ())
    return metric.number(verdict["difference"], sign=True) + (f" ({ends})" if ends else "")


def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A study and overrides such as training.beta2=0.98."
        ),
    ] = None,
    out: Out = None,
    seeds: Annotated[int | None, typer.Option(help="Use seeds 0 to SEEDS-1 instead of the study's.")] = None,
    shard: Shard = "1/1",
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided", help="Add seeds until each arm is decided. It looks after 5, 8, 12, 20 and 30."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None, typer.Option(help="With --until-decided: look for the last time at MAX_SEEDS seeds.")
    ] = None,
    jobs: Jobs = None,
    ray: Ray = None,
    gpus_per_run: GpusPerRun = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write a commented study to CONFIG.yaml (or study.yaml) and run nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare Adam with warmup against RAdam, with several seeds and a statistical verdict.

    Without CONFIG.yaml: a small ViT on real handwritten digits, a minute or two on two CPU cores.
    """
    if init:
        write_starting_study(*split_arguments(arguments, default=Path("study.yaml")), as_json=as_json)
        return
    config, overrides = split_arguments(arguments, default=DEFAULTS / "digits_vit.yaml")
    with interruptible():
        compare_and_report(
            config,
            overrides,
            out=out,
            num_seeds=seeds,
            shard=parse_shard(shard),
            until_decided=until_decided,
            max_seeds=max_seeds,
            workers=parse_workers(jobs, ray, gpus_per_run),
            as_json=as_json,
        )


def write_starting_study(path: Path, overrides: tuple[str, ...] = (), *, as_json: bool = False) -> None:
    """Write a commented YAML to start from.

    Raises:
        ConfigError: if there is a file already, or it cannot be written.
    """
    from hf_warmup.records.files import write_text
    from hf_warmup.studies.comparison.keys import starting_study

    if overrides:
        raise ConfigError(f"--init writes a file and takes its name alone, got {overrides[0]!r} too.")
    if path.exists():
        raise ConfigError(f"{path} is there already; --init replaces nothing. Give another name.")
    try:
        write_text(path, starting_study(str(path)))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
    if as_json:
        print_json({"written": path})
        return
    console_for(as_json).print(f"Wrote {path}: change what is yours, then hf-warmup compare {path}")
