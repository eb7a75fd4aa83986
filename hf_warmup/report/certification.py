"""A certified training study's report, `report.md` with pictures beside it, from its results alone."""

from pathlib import Path

import yaml

from hf_warmup.records.files import Record, write_text
from hf_warmup.report.comparison import template_environment
from hf_warmup.report.plots import certified_pictures, looks, save_pictures


def write_certified_report(results: Record, folder: Path, *, timings: Record | None = None) -> Path:
    """Write `report.md` and `plots/` into a folder and return the path of the former.

    Args:
        results: from `collect_certified`.
        folder: where to.
        timings: seconds and steps of each run, by its name; not part of the results, as they never repeat.
    """
    content = {
        "results": results,
        "table": table_of_arms(results),
        "differences": [_sentence(difference, results) for difference in results["differences"]],
        "pictures": save_pictures(certified_pictures(results), folder / "plots"),
        "timings": timings or {},
        "looks": looks(results, results["config"]),
        "config": yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True).strip(),
    }
    path = folder / "report.md"
    write_text(path, template_environment(html=False).get_template("certified.md.j2").render(content))
    return path


def table_of_arms(results: Record) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mean and standard deviation over seeds of each arm's accuracies, in percent."""
    header = ["method", "n", "clean", "PGD", "verified", "each seed verified"]
    rows = []
    for arm in results["arms"]:
        scores = [spread(arm[f"{key}_accuracy"]) for key in ("clean", "pgd", "verified")]
        each = ", ".join(f"{100 * run['verified_accuracy']:.2f}" for run in arm["runs"])
        rows.append([arm["name"], str(arm["n"]), *scores, each])
    return header, rows


def spread(found: Record) -> str:
    """An accuracy's mean and, with more than one seed, its standard deviation, in percent without the sign."""
    sd = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    return f"{100 * found['mean']:.2f}{sd}"


def _sentence(difference: Record, results: Record) -> str:
    parts = []
    for key, words in (("verified_accuracy", "verified accuracy"), ("clean_accuracy", "clean accuracy")):
        found = difference[key]
        interval = found["t_interval"]
        evidence = (
            "one seed, no interval"
            if interval is None
            else f"95 % t interval {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"
        )
        p = "" if found["p"] is None else f", p = {found['p']:.2g}"
        parts.append(f"{words} {100 * found['mean']:+.2f} points ({evidence}{p})")
    n = results["arms"][0]["n"]
    return f"{difference['arm']} minus {difference['baseline']}, paired by seed, n = {n}: {'; '.join(parts)}."
