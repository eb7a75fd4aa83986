"""A study's report, from its results alone: `report.md` with pictures beside it, and one self-contained `report.html`.

Both hold the same rows, prepared once here; the templates only arrange them. Nothing is typed by hand, so a report can
be made anew from `results.json` at any time. Deliberately absent: numbers that are not in the results.
"""

import base64
import io
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from matplotlib.figure import Figure

from hf_warmup import plots
from hf_warmup.records import write_text
from hf_warmup.statistics import median_steps, p_value, points


Record = dict[str, Any]

CAPTIONS = {
    "learning": "Training loss (smoothed, logarithmic) and validation score. Line: mean over seeds; band: lowest to "
    "highest seed.",
    "rates": "The learning rate that each arm really used, as a share of its own base rate.",
    "updates": "Size of the first updates. At the first one Adam moves every parameter by the full learning rate.",
    "sensitivity": "Validation score at each learning rate: mean and range over seeds. Filled: the chosen rate.",
}


def write_report(results: Record, folder: Path, *, timings: Record | None = None) -> Path:
    """Write `report.md`, `report.html` and `plots/` into a folder.

    Args:
        results: a study's results with verdicts (`statistics.add_verdicts`).
        folder: where to.
        timings: seconds and steps of each cell, by its name; not part of the results, as they never repeat.

    Returns:
        The path of `report.html`.
    """
    figures = _figures(results)
    for name, figure in figures.items():
        _save(figure, folder / "plots" / f"{name}.png")
    content = {
        "results": results,
        "tasks": [_task(results, task, timings or {}) for task in results["tasks"]],
        "difference_figure": "differences",
        "setup": _setup(results),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_warmup"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    markdown = environment.get_template("report.md.j2").render(content)
    write_text(folder / "report.md", markdown)
    environment.autoescape = True
    images = {name: _data_uri(folder / "plots" / f"{name}.png") for name in figures}
    page = folder / "report.html"
    write_text(page, environment.get_template("report.html.j2").render(content, images=images))
    return page


def _figures(results: Record) -> dict[str, Figure]:
    figures = {"differences": plots.differences(results)}
    for task in results["tasks"]:
        figures[f"{task['name']}_learning"] = plots.learning_curves(results, task)
        figures[f"{task['name']}_rates"] = plots.learning_rate_curves(results, task)
        figures[f"{task['name']}_updates"] = plots.update_magnitudes(results, task)
        if len(task["learning_rates"]) > 1:
            figures[f"{task['name']}_sensitivity"] = plots.learning_rate_sensitivity(results, task)
    return figures


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    # Without the software's name and version, the same study gives the same bytes.
    figure.savefig(partial, format="png", dpi=160, metadata={"Software": None})
    partial.replace(path)


def _data_uri(path: Path) -> str:
    buffer = io.BytesIO(path.read_bytes())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _task(results: Record, task: Record, timings: Record) -> Record:
    verdicts = {verdict["arm"]: verdict for verdict in task["verdicts"]}
    captions = [(f"{task['name']}_{kind}", text) for kind, text in CAPTIONS.items()]
    if len(task["learning_rates"]) == 1:
        captions = [(name, text) for name, text in captions if not name.endswith("_sensitivity")]
    return {
        "name": task["name"],
        "metric": task["metric"].replace("_", " "),
        "sentences": [verdict["sentence"] for verdict in task["verdicts"]],
        "facts": _facts(task),
        "rows": [_row(results, task, arm, verdicts.get(arm["name"])) for arm in task["arms"]],
        "grid": _grid(task),
        "figures": captions,
        "seconds": _seconds(results, task, timings),
    }


def _facts(task: Record) -> str:
    sizes = ", ".join(f"{size} {part}" for part, size in task["sizes"].items())
    target = "" if task["target"] is None else f"; target {points(task['target'])}"
    return (
        f"{task['parameters']:,} parameters, {sizes} examples, {task['num_training_steps']} updates a run; margin "
        f"±{points(task['margin'])} points{target}"
    )


def _row(results: Record, task: Record, arm: Record, verdict: Record | None) -> list[str]:
    steps = median_steps([run["steps_to_target"] for run in arm["runs"]])
    reached = f"{steps['median']:g}" if steps["median"] is not None else "–"
    spread = "" if arm["sd"] is None else f" ± {points(arm['sd'])}"
    difference = interval = equivalence = "–"
    if verdict is not None:
        difference = points(verdict["difference"], sign=True)
        if verdict["bootstrap_interval"] is not None:
            interval = " to ".join(points(end, sign=True) for end in verdict["bootstrap_interval"])
            equivalence = p_value(verdict["tost_p_adjusted"])
    return [
        arm["name"],
        f"{arm['learning_rate']:g}",
        f"{points(arm['mean'])}{spread}",
        str(arm["n"]),
        difference,
        interval,
        equivalence,
        "baseline" if verdict is None else verdict["verdict"],
        f"{reached} ({steps['reached']}/{steps['n']})" if task["target"] is not None else "–",
        str(sum(run["diverged"] for run in arm["runs"])),
        str(sum(run["skipped_steps"] for run in arm["runs"])),
    ]


def _grid(task: Record) -> list[list[str]]:
    """Mean validation score per arm and learning rate, with the number of diverged runs."""
    rows = []
    for arm in task["arms"]:
        cells = [arm["name"]]
        for entry in arm["grid"]:
            mean = points(sum(entry["validation"]) / len(entry["validation"]))
            diverged = sum(entry["diverged"])
            cells.append(mean + (f" ({diverged} diverged)" if diverged else ""))
        rows.append(cells)
    return rows


def _seconds(results: Record, task: Record, timings: Record) -> list[list[str]]:
    """Median seconds per update of each arm, and its ratio to the baseline's."""
    per_step: dict[str, float] = {}
    for arm in task["arms"]:
        found = [
            timing["seconds"] / timing["steps"]
            for name, timing in timings.items()
            if name.startswith(f"{task['name']}--{arm['name']}--") and timing["steps"]
        ]
        if found:
            per_step[arm["name"]] = median(found)
    base = per_step.get(results["baseline"])
    if base is None:
        return []
    return [[name, f"{1000 * value:.1f}", f"{value / base:.2f}"] for name, value in per_step.items()]


def _setup(results: Record) -> list[tuple[str, str]]:
    config = results["config"]
    model = config["model"]
    training = {key: value for key, value in config["training"].items() if value is not None and value != []}
    return [
        ("model", str(model["pretrained"] or model["architecture"])),
        ("model configuration", _plain(model["config"])),
        ("training", _plain(training)),
        ("learning rates", _plain(config["learning_rates"])),
        ("seeds", _plain(results["seeds"])),
        ("arms", "; ".join(_arm(arm) for arm in config["arms"])),
        ("versions", _plain(results["versions"])),
    ]


def _arm(arm: Record) -> str:
    length = f" over {arm['num_warmup_steps']} updates" if arm["num_warmup_steps"] else ""
    return f"{arm['name']}: {arm['optimizer']}, {arm['warmup'] or 'no warmup'}{length}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(str(item) for item in value)
