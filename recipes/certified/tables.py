"""Our results beside the papers': `python recipes/certified/tables.py [FOLDER]... [--check]`, as Markdown.

Takes the `results.json` of each folder, by default those of all recipes here that have been run. What the papers
report stands in `published/values.yaml`, with its source. A result that lies outside the published mean +- 2 sd is
marked, and with --check that is exit code 1; runs whose accuracies contradict each other are refused. Rows of other
settings than the papers' come last, without a comparison.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


HERE = Path(__file__).parent
VALUES = HERE / "published" / "values.yaml"
HEADER = ["table", "row", "error", "published", "ours", "n", "epochs", "difference", ""]
# What may differ between a recipe and a study of the same setting: how often one looks, and how steps are computed.
ARITHMETIC = ("precision", "evaluate_every", "checkpoint_every", "compile")
OTHERS = ["study", "method", "data", "eps", "network", "epochs", "n", "standard", "verified"]
FAR = 2.0
INVESTIGATE = "**investigate**"

Json = dict[str, Any]


class Refused(ValueError):
    """Results that cannot be right, or cannot be read."""


def read_results(folder: Path) -> Json:
    """A folder's `results.json`, checked; raises `Refused`."""
    path = folder / "results.json"
    try:
        results: Json = json.loads(path.read_text(encoding="utf-8"))
        for arm in results["arms"]:
            for run in arm["runs"]:
                _check_run(f"{path}: {arm['name']}--{run['seed']}", run, results["sizes"]["test"])
            for key in ("clean_accuracy", "verified_accuracy"):
                _check_summary(f"{path}: {arm['name']}", key, arm)
    except Refused:
        raise
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; a folder of a finished `hf-warmup train` is wanted.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"{path}: no results of `hf-warmup train` ({type(error).__name__}: {error}).") from None
    return results


def _check_run(where: str, run: Json, num_test: int) -> None:
    verified, pgd, clean = (run[f"{key}_accuracy"] for key in ("verified", "pgd", "clean"))
    if not 0 <= verified <= pgd <= clean <= 1:
        raise Refused(f"{where}: verified {verified} <= PGD {pgd} <= clean {clean} does not hold: a bound is wrong.")
    if not run["num_examples"] == run["num_attacked"] == num_test:
        raise Refused(
            f"{where}: judged on {run['num_examples']} and attacked on {run['num_attacked']} of {num_test} test "
            f"images; all are wanted."
        )
    if abs(run["num_verified"] / num_test - verified) > 1e-12:
        raise Refused(f"{where}: {run['num_verified']} of {num_test} images are not {verified}.")
    if run.get("diverged"):
        raise Refused(f"{where} diverged; a table that hid it would be wrong, and one that counted it as well.")


def _check_summary(where: str, key: str, arm: Json) -> None:
    values = [run[key] for run in arm["runs"]]
    if abs(sum(values) / len(values) - arm[key]["mean"]) > 1e-12:
        raise Refused(f"{where}: the mean of {key} is not that of its runs.")


def setting_of(config: Json) -> Json:
    """What makes a study one of a paper's setting: data, model, radius and training but for how it is computed."""
    study = CertifiedStudyConfig.model_validate(config)
    found = study.model_dump(mode="json", include={"data", "model", "eps", "train_eps", "reg_weight", "training"})
    found["training"] = {key: value for key, value in found["training"].items() if key not in ARITHMETIC}
    return found


def method_of(arm: Json, methods: Json) -> str | None:
    """The name of a method by its switches; an arm with a training method of its own is no paper's."""
    if "method" in arm:
        return None
    return next(
        (name for name, switches in methods.items() if all(arm[key] == switches[key] for key in switches)), None
    )


def table_rows(studies: list[Json], values: Json) -> tuple[list[list[str]], list[str]]:
    """The papers' rows, ours beside them, and a sentence for each that is far away."""
    rows: list[list[str]] = []
    far: list[str] = []
    for table in values["tables"]:
        recipe = parse(CertifiedStudyConfig, HERE / f"{table['recipe']}.yaml")
        wanted = setting_of(recipe.model_dump(mode="json"))
        same = [study for study in studies if setting_of(study["config"]) == wanted]
        for row in table["rows"]:
            ours = _runs(same, row["method"], values["methods"])
            epochs = str(recipe.training.epochs)
            for kind, key in (("standard", "clean_accuracy"), ("verified", "verified_accuracy")):
                errors = [100 * (1 - run[key]) for run in ours]
                difference, mark = compared(errors, row[kind], by_bounds=table["verifier"] == "interval bounds")
                name = f"{table['setting']}: {row['row']}"
                rows.append(
                    [f"{table['source']}, {row['table']}", name, kind, spread_of(*row[kind])]
                    + [_measured(errors), str(len(ours) or ""), epochs if ours else "", difference, mark]
                )
                if mark == INVESTIGATE:
                    far.append(
                        f"{name}, {kind} error: {_measured(errors)} is outside {spread_of(*row[kind])} +- 2 sd."
                    )
    return rows, far


def _runs(studies: list[Json], method: str, methods: Json) -> list[Json]:
    """The runs of a method, each seed once."""
    found: Json = {}
    for study in studies:
        for arm, result in zip(study["config"]["arms"], study["arms"], strict=True):
            if method_of(arm, methods) == method:
                for run in result["runs"]:
                    if found.setdefault(run["seed"], run) != run:
                        raise Refused(
                            f"{study['name']}: seed {run['seed']} of {method} is there twice, with two results."
                        )
    return [found[seed] for seed in sorted(found)]


def compared(errors: list[float], published: list[float], *, by_bounds: bool) -> tuple[str, str]:
    """Our mean minus the published one, in published sd where there is one, and a mark if that is far.

    A complete verifier proves more than interval bounds, so beside its numbers a difference says nothing.
    """
    if not errors:
        return "", "not run"
    difference = sum(errors) / len(errors) - published[0]
    if len(published) < 2 or not by_bounds:
        return f"{difference:+.2f}", "" if by_bounds else "by a complete verifier there"
    sds = difference / published[1]
    # A hair's breadth is the printed digits', not ours.
    return f"{difference:+.2f} ({sds:+.1f} sd)", INVESTIGATE if abs(sds) > FAR + 1e-9 else ""


def spread_of(mean: float, sd: float | None = None) -> str:
    """A mean and a standard deviation as tables print them."""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _measured(errors: list[float]) -> str:
    if not errors:
        return ""
    mean = sum(errors) / len(errors)
    if len(errors) == 1:
        return spread_of(mean)
    return spread_of(mean, (sum((error - mean) ** 2 for error in errors) / (len(errors) - 1)) ** 0.5)


def other_rows(studies: list[Json], values: Json) -> Iterator[list[str]]:
    """Results of settings that no paper has."""
    recipes = [parse(CertifiedStudyConfig, HERE / f"{table['recipe']}.yaml") for table in values["tables"]]
    known = [setting_of(recipe.model_dump(mode="json")) for recipe in recipes]
    for study in (study for study in studies if setting_of(study["config"]) not in known):
        config = study["config"]
        for arm in study["arms"]:
            facts = [
                config["name"],
                arm["name"],
                config["data"]["name"],
                config["eps"],
                config["model"]["architecture"],
            ]
            errors = (
                _measured([100 * (1 - run[f"{key}_accuracy"]) for run in arm["runs"]]) for key in ("clean", "verified")
            )
            yield [*facts, str(config["training"]["epochs"]), str(arm["n"]), *errors]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(studies: list[Json], values: Json) -> tuple[str, list[str]]:
    """Both tables as Markdown, and what is to be investigated; raises `Refused`."""
    rows, far = table_rows(studies, values)
    parts = [
        "Error of the test split in percent, mean ± sd over seeds; ours verified by interval bounds alone.",
        markdown(HEADER, rows),
    ]
    if others := list(other_rows(studies, values)):
        parts += ["Settings that these papers do not have:", markdown(OTHERS, others)]
    parts += [f"Investigate: {sentence}" for sentence in far]
    return "\n\n".join(parts) + "\n", far


def main(arguments: list[str] | None = None) -> int:
    """Print or write the tables; exit code 1 for what --check finds, 2 for results that are refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders with results.json; by default all here")
    parser.add_argument("--out", type=Path, help="file to write instead of the terminal")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a result is to be investigated")
    options = parser.parse_args(arguments)
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    try:
        folders = options.folders or sorted(path.parent for path in HERE.glob("*/results.json"))
        text, far = document([read_results(folder) for folder in folders], values)
    except Refused as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 2
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
    return 1 if far and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
