"""What `hf-warmup train` does: recipe in, progress on the terminal, models, results and report in a folder."""

from functools import partial
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from hf_warmup.cli.quiet import quiet_libraries
from hf_warmup.data.images import ImageData, load_images
from hf_warmup.hub.publish import check_push, push_model
from hf_warmup.records.files import Record, write_json
from hf_warmup.report.certification import table_of_arms, write_certified_report
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.run import CertifiedCell, OnModel, epoch_length
from hf_warmup.studies.certification.study import plan_certified, run_certified_study
from hf_warmup.studies.folder import read_timings, run_path
from hf_warmup.training.accelerator import join_processes
from hf_warmup.yaml_config import parse


def train_and_report(
    config: Path, overrides: tuple[str, ...], *, out: Path | None, num_seeds: int | None, push_to: str | None = None
) -> None:
    """Run what is missing of a study; write results.json, the report and the models.

    Args:
        config, overrides, num_seeds: see `load_study`.
        out: the study's folder.
        push_to: Hub repository that models are pushed to, with each checkpoint and at the end: to its main branch, or
            to one of the run's name where the study has several.

    Raises:
        ConfigError: for a recipe, data or a folder that cannot be used, or a repository that cannot be written to.
    """
    join_processes()
    study = parse(CertifiedStudyConfig, config, overrides=overrides, num_seeds=num_seeds)
    folder = out or Path("runs") / study.name
    # Libraries' own progress bars and load reports would drown the study's.
    quiet_libraries()
    is_main = PartialState().is_main_process
    console = Console(quiet=not is_main, highlight=False)
    with PartialState().main_process_first():
        data = load_images(study.data)
    cells = plan_certified(study)
    missing = [cell for cell in cells if not run_path(folder, cell.name).exists()]
    processes = f" on {PartialState().num_processes} processes" if PartialState().num_processes > 1 else ""
    already = f", {len(cells) - len(missing)} of them done already" if len(missing) < len(cells) else ""
    console.print(f"{study.name}: {len(cells)} runs into {folder}{processes}{already}")
    on_model = None
    if push_to is not None:
        check_push(push_to)
        on_model = partial(_push, repo_id=push_to, own_branches=len(cells) > 1)
    results = _run_with_progress(study, data, folder, len(missing), console, on_model)
    if is_main:
        write_json(folder / "results.json", results)
        report = write_certified_report(results, folder, timings=read_timings(folder))
        header, rows = table_of_arms(results)
        table = Table(
            *header, title=f"{study.name}: test split, eps {study.eps}, last epoch, percent", title_justify="left"
        )
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print(f"Report: {report}\nModels: {folder / 'models'}")


def _push(name: str, model: Path, when: str, *, repo_id: str, own_branches: bool) -> None:
    push_model(model, repo_id, message=f"{name}, {when}", revision=name if own_branches else None)


def _run_with_progress(
    study: CertifiedStudyConfig,
    data: ImageData,
    folder: Path,
    missing: int,
    console: Console,
    on_model: OnModel | None,
) -> Record:
    length = epoch_length(study, data, PartialState().num_processes)
    updates = study.training.epochs * length
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=missing * updates)
        verified = ""

        def show(cell: CertifiedCell, record: Record) -> None:
            nonlocal verified
            if record["kind"] == "step":
                epoch, eps = (record["step"] - 1) // length + 1, record["metrics"]["eps"]
                where = f"{cell.name} epoch {epoch}/{study.training.epochs} eps {eps:.4f}{verified}"
                progress.update(bar, advance=1, description=where)
            elif record["kind"] == "evaluation":
                verified = f" verified {100 * record['verified_accuracy']:.1f} %"
            elif record["kind"] == "result":
                verified = ""
                shares = (f"{key} {100 * record[f'{key}_accuracy']:.2f} %" for key in ("clean", "pgd", "verified"))
                progress.console.print(f"{cell.name}: {', '.join(shares)}", highlight=False)

        return run_certified_study(study, data, folder, on_record=show, on_model=on_model)
