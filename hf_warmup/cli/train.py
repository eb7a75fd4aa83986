"""`hf-warmup train` runs a recipe, shows its progress, and stores models, results and a report in a folder."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hf_warmup.cli.arguments import DEFAULTS, Out, Shard, parse_shard, split_arguments
from hf_warmup.cli.interruption import interruptible
from hf_warmup.cli.output import AsJson, print_json, study_document
from hf_warmup.cli.workers import HERE, GpusPerRun, Jobs, Ray, Workers, engage, parse_workers
from hf_warmup.records.files import write_json
from hf_warmup.yaml_config import parse


if TYPE_CHECKING:
    from hf_warmup.studies.certification.config import CertifiedStudyConfig
    from hf_warmup.studies.certification.plan import CertifiedCell
    from hf_warmup.studies.runner import Study


def train_and_report(
    config: Path,
    overrides: tuple[str, ...],
    *,
    out: Path | None,
    num_seeds: int | None,
    push_to: str | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: Workers = HERE,
    as_json: bool = False,
) -> None:
    """Run what is missing of a study; write results.json, the report and the models.

    Args:
        config, overrides, num_seeds: see `load_study`.
        out: the study's folder.
        push_to: Hub repository that models are pushed to, with each checkpoint and at the end: to its main branch, or
            to one of the run's name where the study has several.
        shard: (i, n): this process makes every n-th seed's runs, from the i-th, 1-based.
        workers: who makes the cells.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: for a recipe, data or a folder that cannot be used, or a repository that cannot be written to.
    """
    from hf_warmup.studies.certification.config import CertifiedStudyConfig

    # Before anything imports torch: a mistake in the recipe is answered at once.
    read = parse(CertifiedStudyConfig, config, overrides=overrides, num_seeds=num_seeds)

    from hf_warmup.hub.publish import check_push
    from hf_warmup.report.certification import table_of_arms, write_certified_report
    from hf_warmup.studies.folder import read_timings
    from hf_warmup.studies.jobs import state_threads
    from hf_warmup.studies.progress import make_console, show_study
    from hf_warmup.training.accelerator import decide, join_processes

    join_processes()
    folder, console = out or Path("runs") / read.name, make_console(stderr=as_json)
    study = decide(lambda: state_threads(read, folder, asked=workers != HERE))
    if push_to is not None:
        check_push(push_to)
    make = partial(_make_study, study, push_to)
    with engage(workers, make, folder, threads=study.threads, shard=shard) as helpers:
        results = show_study(make(), folder, console, shard=shard, workers=helpers)
    as_json = as_json and not console.quiet
    if results is None and as_json:
        print_json(study_document(None, folder))
    if results is not None:
        write_json(folder / "results.json", results)
        report = write_certified_report(results, folder, timings=read_timings(folder))
        models = folder / "models"
        if as_json:
            print_json(study_document(results, folder, report=report, models=models))
            return
        header, rows = table_of_arms(results)
        table = Table(
            *header, title=f"{study.name}: test split, eps {study.eps}, last epoch, percent", title_justify="left"
        )
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print(f"Report: {report}\nModels: {models}")


def _make_study(study: "CertifiedStudyConfig", push_to: str | None) -> "Study[CertifiedCell]":
    """What each process of a crew makes for itself."""
    from accelerate import PartialState

    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.data.images import load_images
    from hf_warmup.studies.certification.study import certified_study

    quiet_libraries()
    with PartialState().main_process_first():
        data = load_images(study.data)
    own_branches = len(study.arms) * len(study.seeds) > 1
    on_model = None if push_to is None else partial(_push, repo_id=push_to, own_branches=own_branches)
    return certified_study(study, data, on_model=on_model)


def _push(name: str, model: Path, when: str, *, repo_id: str, own_branches: bool) -> None:
    from hf_warmup.hub.publish import push_model

    push_model(model, repo_id, message=f"{name}, {when}", revision=name if own_branches else None)


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A recipe and overrides such as eps=8/255."),
    ] = None,
    out: Out = None,
    seeds: Annotated[int | None, typer.Option(help="Use seeds 0 to SEEDS-1 instead of the recipe's.")] = None,
    shard: Shard = "1/1",
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Push models to this repository, with each checkpoint and at the end."),
    ] = None,
    compile_steps: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile training steps; by default on a GPU only."),
    ] = None,
    jobs: Jobs = None,
    ray: Ray = None,
    gpus_per_run: GpusPerRun = None,
    as_json: AsJson = False,
) -> None:
    """Train robust image classifiers by a short warmup of the perturbation radius, and prove how robust they are.

    Without CONFIG.yaml: a small network on real handwritten digits, by two methods; two minutes on two CPU cores.
    """
    config, overrides = split_arguments(arguments, default=DEFAULTS / "digits_certified.yaml")
    if compile_steps is not None:
        overrides = (*overrides, f"training.compile={str(compile_steps).lower()}")
    with interruptible():
        train_and_report(
            config,
            overrides,
            out=out,
            num_seeds=seeds,
            push_to=push_to_hub,
            shard=parse_shard(shard),
            workers=parse_workers(jobs, ray, gpus_per_run),
            as_json=as_json,
        )
