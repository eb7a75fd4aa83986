"""Tables of a comparison's report: scores, what verdicts rest on, rates that were tried, time for each update."""

from dataclasses import dataclass
from statistics import median

from hf_warmup.records.files import Record
from hf_warmup.statistics.metrics import Metric, metric_of
from hf_warmup.statistics.sentences import p_value, unscored_word
from hf_warmup.statistics.verdicts import median_steps


NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells as they are printed; the first column holds names, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]


def scores(results: Record, task: Record) -> Table:
    """Scores on the test part, one row for each arm."""
    metric = metric_of(task)
    verdicts = {verdict["arm"]: verdict for verdict in task["verdicts"]}
    header = ["arm", "learning rate", f"test {metric.words}, mean ± sd", "n", "difference", "verdict"]
    header += ["updates to target (reached)"] * (task["target"] is not None) + ["diverged", "skipped updates"]
    rows = []
    for arm in task["arms"]:
        verdict = verdicts.get(arm["name"])
        steps = median_steps([run["steps_to_target"] for run in arm["runs"]])
        reached = NONE if steps["median"] is None else f"{steps['median']:g}"
        rows.append(
            [
                arm["name"],
                f"{arm['learning_rate']:g}",
                _number(metric, arm["mean"]) + ("" if arm["sd"] is None else f" ± {metric.number(arm['sd'])}"),
                str(arm["n"]),
                NONE if verdict is None else metric.number(verdict["difference"], sign=True),
                word_of(results["baseline"], task, arm["name"]),
                *([f"{reached} ({steps['reached']}/{steps['n']})"] if task["target"] is not None else []),
                str(sum(run["diverged"] for run in arm["runs"])),
                str(sum(run["skipped_steps"] for run in arm["runs"])),
            ]
        )
    title = f"Scores on the test part{metric.in_unit}; differences are paired by seed."
    title += " Updates to target: median, of runs." if task["target"] is not None else ""
    return Table(title + " Lower is better." * metric.lower_is_better, header, rows)


def word_of(baseline: str, task: Record, name: str) -> str:
    """What a table says of an arm: its verdict, that it is the baseline, or what became of runs without a score."""
    [arm] = [arm for arm in task["arms"] if arm["name"] == name]
    lost = unscored_word(arm["runs"])
    if name == baseline:
        return f"baseline, {lost}" if lost else "baseline"
    for verdict in task["verdicts"]:
        if verdict["arm"] == name:
            return metric_of(task).word(verdict)
    return lost or "no verdict"


def evidence(task: Record) -> Table:
    """What the verdicts rest on, one row for each verdict."""
    metric = metric_of(task)
    title = (
        f"What the verdicts rest on{metric.in_unit}. Smallest detectable: difference that is found with power .8. "
        f"Margin needed: the smallest at which these runs would show equivalence; the margin was "
        f"±{metric.number(task['margin'])}. More seeds: until power .8, if the difference is the true one."
    )
    header = [
        "arm",
        "95 % t interval",
        "TOST p",
        "t test p",
        "all arms at once, p",
        "smallest detectable",
        "margin needed",
        "more seeds for equivalence",
        "for a difference",
    ]
    rows = [
        [
            verdict["arm"],
            _interval(metric, verdict["t_interval"]),
            _p(verdict["tost_p_adjusted"]),
            _p(verdict["ttest_p_adjusted"]),
            _p(verdict.get("simultaneous_p")),
            _number(metric, verdict["smallest_detectable_effect"]),
            _number(metric, verdict["equivalence_needs"]),
            _count(verdict.get("more_seeds_for_equivalence")),
            _count(verdict.get("more_seeds_for_difference")),
        ]
        for verdict in task["verdicts"]
    ]
    return Table(title, header, rows)


def _interval(metric: Metric, ends: list[float] | None) -> str:
    return NONE if ends is None else " to ".join(metric.number(end, sign=True) for end in ends)


def _number(metric: Metric, value: float | None) -> str:
    return NONE if value is None else metric.number(value)


def _count(value: int | None) -> str:
    return NONE if value is None else str(value)


def _p(p: float | None) -> str:
    return NONE if p is None else p_value(p).removeprefix("= ")


def grid(results: Record, task: Record) -> Table:
    """Mean validation score per arm and learning rate, with the number of diverged runs."""
    rows, metric = [], metric_of(task)
    for arm in task["arms"]:
        cells = [arm["name"]]
        for entry in arm["grid"]:
            known = [score for score in entry["validation"] if score is not None]
            diverged = sum(entry["diverged"])
            mean = metric.number(sum(known) / len(known)) if known else NONE
            cells.append(mean + (f" ({diverged} diverged)" if diverged else ""))
        rows.append(cells)
    seeds = "the tuning seeds" if results.get("tuning_seeds") else "seeds"
    title = f"Score on the validation part, mean over {seeds}, by learning rate."
    if len(task["learning_rates"]) > 1:
        title += " The test scores above are at the rate that is best here."
    return Table(title, ["arm", *(f"{rate:g}" for rate in task["learning_rates"])], rows)


def seconds(results: Record, task: Record, timings: Record) -> Table:
    """Median time per update of each arm, and its ratio to the baseline's."""
    per_step: dict[str, float] = {}
    for arm in task["arms"]:
        prefix = f"{task['name']}--{arm['name']}--"
        found = [t["seconds"] / t["steps"] for name, t in timings.items() if name.startswith(prefix) and t["steps"]]
        if found:
            per_step[arm["name"]] = median(found)
    base = per_step.get(results["baseline"])
    title = (
        "Time per update, median over runs, evaluation included. All arms run foreach kernels; runs were not timed "
        "side by side, so take the ratios as indications."
    )
    header = ["arm", "ms per update", f"ratio to {results['baseline']}"]
    rows = [[name, f"{1000 * value:.1f}", f"{value / base:.2f}"] for name, value in per_step.items()] if base else []
    return Table(title, header, rows)
