"""A study's report, from its results alone: `report.md` with pictures beside it, and one self-contained `report.html`.

Both hold the same tables; the templates only arrange them. Nothing is typed by hand, so a report can be made again
from `results.json` at any time. Deliberately absent: numbers that are not in the results.
"""

import base64
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
import yaml

from hf_warmup.records.files import Record, write_text
from hf_warmup.report import tables
from hf_warmup.report.plots import Picture, pictures, save_pictures
from hf_warmup.statistics.metrics import metric_of
from hf_warmup.statistics.paired import FEW_SEEDS
from hf_warmup.statistics.verdicts import add_verdicts


# Kinds of tasks that a person brings, and the key that says what is run.
OWN_KINDS = {"function": "function", "trainer": "factory", "script": "command"}


def write_report(results: Record, folder: Path, *, timings: Record | None = None) -> Path:
    """Write `report.md`, `report.html` and `plots/` into a folder.

    Args:
        results: a study's results; verdicts are added where they are missing (`statistics.add_verdicts`).
        folder: where to.
        timings: seconds and steps of each cell, by its name; not part of the results, as they never repeat.

    Returns:
        The path of `report.html`.
    """
    if not all("verdicts" in task for task in results["tasks"]):
        results = add_verdicts(results)
    drawn = save_pictures(pictures(results), folder / "plots")
    content = {
        "results": results,
        "sentences": [found for task in results["tasks"] for found in _sentences(task)],
        "overview": [picture for picture in drawn if picture.task is None],
        "tasks": [_task(results, task, drawn, timings or {}) for task in results["tasks"]],
        "limits": [limit for task in results["tasks"] for limit in _limits(task)],
        "limits_of_runs": _limits_of_runs(results),
        "setup": _setup(results),
        "config": yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True).strip(),
    }
    markdown = template_environment(html=False).get_template("report.md.j2").render(content)
    write_text(folder / "report.md", markdown)
    images = {picture.name: _data_uri(folder / "plots" / f"{picture.name}.png") for picture in drawn}
    page = folder / "report.html"
    write_text(page, template_environment(html=True).get_template("report.html.j2").render(content, images=images))
    return page


def _sentences(task: Record) -> list[tuple[str, str]]:
    """Each verdict with its sentence, and the sentence about all arms at once, which older results lack."""
    found = [(verdict["verdict"], verdict["sentence"]) for verdict in task["verdicts"]]
    found += [("no score", words) for words in task.get("unscored", {}).values()]
    return [*found, ("all arms at once", task["simultaneous"])] if task.get("simultaneous") else found


def template_environment(*, html: bool) -> jinja2.Environment:
    """Templates of the package, for Markdown or HTML; in both, text from outside shows as it is."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_warmup.report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=html,
    )
    environment.filters["plain"] = _plain_markdown
    return environment


def _plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table: no tag, no column, no new line."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split())).replace("|", "\\|")


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _task(results: Record, task: Record, pictures: list[Picture], timings: Record) -> Record:
    made = [
        tables.scores(results, task),
        tables.evidence(task),
        tables.grid(results, task),
        tables.seconds(results, task, timings),
    ]
    return {
        "name": task["name"],
        "facts": _facts(task),
        "tables": [table for table in made if table.rows],
        "failures": [_failure(found) for found in task.get("failures", [])],
        "pictures": [picture for picture in pictures if picture.task == task["name"]],
    }


def _failure(found: Record) -> Record:
    """Which run failed, and its last words."""
    which = f"{found['arm']}, learning rate {found['learning_rate']:g}, seed {found['seed']}"
    return {"run": f"{which} failed: {found['reason']}", "lines": "\n".join(found["lines"])}


def _facts(task: Record) -> str:
    """What is known of a task; a person's own run may tell little of itself."""
    facts = [f"{task['parameters']:,} parameters"] if task["parameters"] is not None else []
    facts += [f"{task['num_labels']} labels"] if task["num_labels"] is not None else []
    start = [", ".join(facts)] if facts else []
    sizes = ", ".join(f"{size} {part}" for part, size in task["sizes"].items())
    start += [f"{sizes} examples"] if sizes else []
    start += [f"{task['num_training_steps']} updates a run"] if task["num_training_steps"] else []
    metric = metric_of(task)
    start += [f"margin ±{metric.number(task['margin'])}{metric.suffix}"]
    start += [f"target {metric.number(task['target'])}"] if task["target"] is not None else []
    return "; ".join(start)


def _limits(task: Record) -> list[str]:
    """What the numbers of this task cannot show, as far as they tell it themselves."""
    limits = []
    n = min(arm["n"] for arm in task["arms"])
    if n < FEW_SEEDS:
        limits.append(
            f"With {n} {'seed' if n == 1 else 'seeds'} an arm the t tests lean on differences being normal: where "
            f"they are strongly skewed, 5 % of false verdicts become up to 20."
        )
    if task["metric"] == "accuracy" and task["sizes"].get("test"):
        examples = task["sizes"]["test"]
        limits.append(
            f"One test example is {metric_of(task).number(1 / examples)} points. The spread over seeds is that of "
            f"training; which {examples} examples happen to be the test part adds to it."
        )
    rates = sorted(task["learning_rates"])
    if len(rates) == 1:
        limits.append(f"All arms ran at one learning rate, {rates[0]:g}, which may suit one of them better.")
    elif edge := chosen_at_the_edge(task):
        limits.append(edge)
    return [f"{task['name']}: {limit}" for limit in limits]


def chosen_at_the_edge(task: Record) -> str | None:
    """A sentence that names the arms whose learning rate is the smallest or largest of several; None without any."""
    rates = sorted(task["learning_rates"])
    edge = [
        f"{a['name']} ({a['learning_rate']:g})" for a in task["arms"] if a["learning_rate"] in (rates[0], rates[-1])
    ]
    if len(rates) == 1 or not edge:
        return None
    return f"Chosen at an end of the grid, so a better rate may lie beyond: {', '.join(edge)}."


def _setup(results: Record) -> list[tuple[str, str]]:
    config = results["config"]
    plan, tuning = results.get("plan"), results.get("tuning_seeds")
    looks = f"after {_plain(plan['looks'])} seeds; alpha spent by {plan['spending']}" if plan else ""
    return [
        *(_built_in(config) if config.get("model") else []),
        *((f"runs of {task['name']}", _own_runs(task)) for task in config.get("tasks", []) if _is_own(task)),
        ("learning rates", _plain(config["learning_rates"])),
        *([("seeds that choose the learning rates", _plain(tuning))] if tuning else []),
        *([("looks, declared before anything ran", looks)] if plan else []),
        ("seeds", _plain(results["seeds"])),
        ("arms", "; ".join(_arm(arm) for arm in config["arms"])),
        ("versions", _plain(results["versions"])),
        *((key, results[key]) for key in ("hardware", "commit") if results.get(key)),
    ]


def _built_in(config: Record) -> list[tuple[str, str]]:
    model = config["model"]
    training = {key: value for key, value in config["training"].items() if value is not None and value != []}
    return [
        ("model", str(model["pretrained"] or model["architecture"])),
        ("model configuration", _plain(model["config"])),
        ("training", _plain(training)),
    ]


def _limits_of_runs(results: Record) -> str:
    """What runs share, and which scores choose and judge."""
    shared = "Pairs of runs with the same seed share initialization, data order and dropout."
    if any(map(_is_own, results["config"].get("tasks", []))):
        shared = "Runs with the same seed share what your own code draws from the seed."
    if any(task.get("one_score") for task in results["tasks"]):
        return (
            f"{shared} Runs give one score, which judges them; among several learning rates each arm's was chosen by "
            f"that score on seeds of their own."
        )
    return (
        f"{shared} The learning rate of each arm was chosen on validation data; only the last weights were scored on "
        f"the test part."
    )


def _is_own(task: Record) -> bool:
    return task.get("kind") in OWN_KINDS


def _own_runs(task: Record) -> str:
    what = task[OWN_KINDS[task["kind"]]]
    words = what if isinstance(what, str) else shlex.join(map(str, what))
    arguments = _plain(task["arguments"]) if task.get("arguments") else ""
    return f"{task['kind']} {words}" + (f"; {arguments}" if arguments else "")


def _arm(arm: Record) -> str:
    length = f" over {arm['num_warmup_steps']} updates" if arm["num_warmup_steps"] else ""
    optimizer, course = arm["optimizer"], arm.get("schedule") or arm["warmup"] or "no warmup"
    if arm.get("optimizer_kwargs"):
        optimizer += f" ({_plain(arm['optimizer_kwargs'])})"
    if arm.get("schedule_kwargs"):
        course += f" ({_plain(arm['schedule_kwargs'])})"
    return f"{arm['name']}: {optimizer}, {course}{length}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or tables.NONE
    return ", ".join(str(item) for item in value)
