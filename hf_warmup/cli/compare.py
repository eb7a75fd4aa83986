"""What `hf-warmup compare` does: study in, progress on the terminal, results and report in a folder."""

from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from hf_warmup.cli.quiet import quiet_libraries
from hf_warmup.data.tasks import Task
from hf_warmup.records.files import Record, write_json
from hf_warmup.report.comparison import write_report
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import StudyConfig, load_study
from hf_warmup.studies.comparison.run import Cell, num_updates
from hf_warmup.studies.comparison.study import collect, load_tasks, open_study, plan, run_study
from hf_warmup.studies.folder import read_timings, run_path
from hf_warmup.training.accelerator import join_processes


def compare_and_report(
    config: Path, overrides: tuple[str, ...], *, out: Path | None, num_seeds: int | None, shard: tuple[int, int]
) -> None:
    """Run what is missing of a study and, once nothing is, write results.json and the report.

    Raises:
        ConfigError: see `load_study`, `load_task`, `open_study`.
    """
    join_processes()
    study = load_study(config, overrides=overrides, num_seeds=num_seeds)
    folder = out or Path("runs") / study.name
    # Libraries' own progress bars and load reports would drown the study's.
    quiet_libraries()
    is_main = PartialState().is_main_process
    console = Console(quiet=not is_main)
    tasks = load_tasks(study)
    open_study(study, folder)
    cells = plan(study)[shard[0] - 1 :: shard[1]]
    done = sum(run_path(folder, cell.name).exists() for cell in cells)
    processes = f" on {PartialState().num_processes} processes" if PartialState().num_processes > 1 else ""
    already = f", {done} of them done already" if done else ""
    console.print(f"{study.name}: {len(cells)} runs into {folder}{processes}{already}")
    missing = _run_with_progress(study, tasks, folder, shard, console)
    if missing:
        console.print(f"{missing} runs of other shards are still missing; the last shard to finish writes the report.")
        return
    if is_main:
        results = add_verdicts(collect(study, tasks, folder))
        write_json(folder / "results.json", results)
        report = write_report(results, folder, timings=read_timings(folder))
        _print_summary(console, results)
        console.print(f"Report: {report}")


def _run_with_progress(
    study: StudyConfig, tasks: dict[str, Task], folder: Path, shard: tuple[int, int], console: Console
) -> int:
    lengths = {
        name: num_updates(study, len(task.train), PartialState().num_processes)  # type: ignore[arg-type]
        for name, task in tasks.items()
    }
    cells = plan(study)[shard[0] - 1 :: shard[1]]
    missing = [cell for cell in cells if not run_path(folder, cell.name).exists()]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=sum(lengths[cell.task] for cell in missing))

        def show(cell: Cell, record: Record) -> None:
            if record["kind"] == "step":
                where = f"{cell.task} {cell.arm.name} lr {cell.learning_rate:g} seed {cell.seed}"
                progress.update(bar, advance=1, description=where)
            elif record["kind"] == "result":
                outcome = "diverged, " if record["diverged"] else ""
                progress.console.print(f"{cell.name}: {outcome}validation {record['validation']:.4f}", highlight=False)

        return run_study(study, tasks, folder, shard=shard, on_record=show)


def _print_summary(console: Console, results: Record) -> None:
    for task in results["tasks"]:
        table = Table(title=f"{task['name']}: test {task['metric']}", title_justify="left")
        for column in ("arm", "learning rate", "mean", "sd", "n"):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for arm in task["arms"]:
            sd = "" if arm["sd"] is None else f"{arm['sd']:.4f}"
            table.add_row(arm["name"], f"{arm['learning_rate']:g}", f"{arm['mean']:.4f}", sd, str(arm["n"]))
        console.print(table)
        for verdict in task["verdicts"]:
            console.print(f"- {verdict['sentence']}", highlight=False)
