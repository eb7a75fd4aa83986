"""Makes a data set of a finished study, so that others can repeat its statistics from the records."""

from collections.abc import Iterable
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, DatasetCardData
from pydantic import ValidationError

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json
from hf_warmup.report.comparison import template_environment
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.plan import plan_certified
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.plan import plan
from hf_warmup.studies.folder import cost_path, run_path


# Published beside the records, where a folder has them. SVG is left out, since it can hold scripts.
REPORTS = ("results.json", "report.md", "report.html")


def is_study(folder: Path) -> bool:
    """Whether `folder` is one that `hf-warmup compare` or `train` has written to."""
    return (folder / "study.json").is_file()


def study_contents(folder: Path) -> dict[str, Path | bytes]:
    """What is published of a finished study: results, report, pictures, records, its YAML and a card; no models.

    Args:
        folder: of `hf-warmup compare` or `hf-warmup train`.

    Raises:
        ConfigError: if it is not finished, or its results are not as this version writes them.
    """
    results = _results(folder)
    command, names = _runs(folder, results)
    paths = [folder / name for name in REPORTS if (folder / name).exists()]
    paths += sorted((folder / "plots").glob("*.png"))
    paths += [run_path(folder, name) for name in names]
    paths += [path for name in names if (path := cost_path(folder, name)).exists()]
    _check_complete(folder, paths)
    contents: dict[str, Path | bytes] = {str(path.relative_to(folder).as_posix()): path for path in paths}
    study = yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True)
    return {**contents, "study.yaml": study.encode(), "README.md": _card(results, command, len(names)).encode()}


def _results(folder: Path) -> Record:
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds a study without results.json: it is not finished. Run the command that began it again."
        )
    try:
        results = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}).") from None
    if not isinstance(results, dict) or not {"name", "config", "versions"} <= results.keys():
        raise ConfigError(f"{path} does not hold results of hf-warmup compare or train.")
    return results


def _runs(folder: Path, results: Record) -> tuple[str, list[str]]:
    """The command that makes such a study, and the names of its runs."""
    try:
        if "verifier" in results:
            recipe = CertifiedStudyConfig.model_validate(results["config"])
            return "train", [run.name for run in plan_certified(recipe, results["updates_per_epoch"])]
        study = StudyConfig.model_validate(results["config"])
        lengths = {task["name"]: task["num_training_steps"] for task in results["tasks"]}
        return "compare", [cell.name for cell in plan(study, lengths)]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'results.json'} lacks what this version writes ({error}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{folder / 'results.json'}: its config is not one of this version ({where}: {first['msg']})."
        ) from None


def _check_complete(folder: Path, paths: Iterable[Path]) -> None:
    going = sorted(path.name for path in (folder / "cells").glob("*.partial"))
    if going:
        raise ConfigError(f"{folder}: runs are not finished ({', '.join(going[:3])}); publish when they are.")
    for path in paths:
        if path.is_symlink() or path.parent.is_symlink():
            raise ConfigError(
                f"{folder}: {path.relative_to(folder)} is a symbolic link; only plain files are published."
            )
        if not path.is_file():
            raise ConfigError(
                f"{folder}: the records {path.relative_to(folder)} are missing, from which results.json was made; "
                f"others could not check it."
            )


def _card(results: Record, command: str, num_runs: int) -> str:
    data = DatasetCardData(
        pretty_name=results["name"],
        tags=["hf_warmup", "learning-rate-warmup", "training-records"],
        # Lines of different kinds stand in one file, which is no table.
        viewer=False,
    )
    template = template_environment(html=False).get_template("study_card.md.j2")
    text = template.render(results=results, command=command, num_runs=num_runs)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))
