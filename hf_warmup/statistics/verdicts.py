"""Verdicts on a study: is each arm equivalent to the baseline, different from it, or is that not decided?

Each verdict is one sentence that carries its own evidence: the difference, its interval, the number of seeds and the
margin, and where nothing is decided, what could have been seen and what would decide. Over several tasks the p values
are adjusted by Holm's method, arm by arm. Scores are shares (accuracy, Matthews correlation); sentences speak of
points, hundredths of a score. Deliberately absent: a correction over arms, each of which asks its own question.
"""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

from statsmodels.stats.multitest import multipletests

from hf_warmup.statistics.paired import (
    FEW_SEEDS,
    MOST_SEEDS,
    Comparison,
    compare_with_baseline,
    median_steps,
    more_seeds_needed,
)


__all__ = ["Comparison", "add_verdicts", "compare_with_baseline", "median_steps", "more_seeds_needed", "points"]

Record = dict[str, Any]

ALPHA = 0.05
METRICS = {"accuracy": "accuracy", "matthews_correlation": "Matthews correlation"}


def add_verdicts(results: Record) -> Record:
    """A study's results with what its scores show.

    Args:
        results: a study's `results.json`; it is not changed.

    Returns:
        The same document, in which each arm has `mean`, `sd` (None for one run) and `n` of its test scores, and each
        task `verdicts`: for every arm but the baseline the fields of `Comparison`, the p values adjusted over tasks,
        `verdict` ("equivalent", "different", "not decided"), `sentence` and the medians of the steps to the target.

    Raises:
        ValueError: if a task lacks the baseline, or an arm shares no seed with it.
    """
    baseline = results["baseline"]
    tasks = [{**task, "arms": [_with_scores(arm) for arm in task["arms"]]} for task in results["tasks"]]
    verdicts: list[list[Record]] = [[] for _ in tasks]
    for name in dict.fromkeys(arm["name"] for task in tasks for arm in task["arms"]):
        indices = [i for i, task in enumerate(tasks) if any(arm["name"] == name for arm in task["arms"])]
        if name == baseline:
            continue
        family = [tasks[i] for i in indices]
        for i, verdict in zip(indices, _judge(name, baseline, family), strict=True):
            verdicts[i].append(verdict)
    return {**results, "tasks": [{**task, "verdicts": found} for task, found in zip(tasks, verdicts, strict=True)]}


def points(score: float, *, sign: bool = False) -> str:
    """A score or difference in points, with a true minus sign.

    >>> points(-0.0123, sign=True), points(0.0001)
    ('−1.23', '0.01')
    """
    rounded = round(100 * score, 2) + 0.0
    return f"{rounded:+.2f}".replace("-", "−") if sign else f"{rounded:.2f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p value as it is printed, with its sign of comparison.

    >>> p_value(0.0234), p_value(0.00001), p_value(0.0496), p_value(0.99999)
    ('= .023', '< .001', '= .0496', '> .999')
    """
    if p < 0.001:
        return "< .001"
    if p > 0.999:
        return "> .999"
    digits = 4 if abs(p - ALPHA) < 0.001 else 3
    return f"= {p:.{digits}f}".replace("0.", ".", 1)


def _with_scores(arm: Record) -> Record:
    scores = [run["test"] for run in arm["runs"]]
    sd = stdev(scores) if len(scores) > 1 else None
    return {**arm, "mean": fmean(scores) if scores else None, "sd": sd, "n": len(scores)}


def _judge(name: str, baseline: str, tasks: Sequence[Record]) -> list[Record]:
    """Verdicts on one arm, a family of tests over `tasks`."""
    pairs = [(_arm(task, name), _arm(task, baseline)) for task in tasks]
    comparisons = [
        _compare(arm, reference, margin=task["margin"], num_tests=len(tasks))
        for task, (arm, reference) in zip(tasks, pairs, strict=True)
    ]
    equivalence = _holm([comparison.tost_p for comparison in comparisons])
    difference = _holm([comparison.ttest_p for comparison in comparisons])
    verdicts = []
    for i, (task, (arm, reference), comparison) in enumerate(zip(tasks, pairs, comparisons, strict=True)):
        verdict = _verdict(equivalence[i], difference[i])
        found: Record = {
            "arm": name,
            "baseline": baseline,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(comparison).items()},
            "num_tasks": len(tasks),
            "tost_p_adjusted": equivalence[i],
            "ttest_p_adjusted": difference[i],
            "verdict": verdict,
            "more_seeds_needed": comparison.more_seeds_needed if verdict == "not decided" else None,
            "diverged": {side["name"]: sum(run["diverged"] for run in side["runs"]) for side in (arm, reference)},
            "steps_to_target": {
                side["name"]: median_steps([run["steps_to_target"] for run in side["runs"]])
                for side in (arm, reference)
            },
        }
        verdicts.append({**found, "sentence": _sentence(found, task)})
    return verdicts


def _arm(task: Record, name: str) -> Record:
    for arm in task["arms"]:
        if arm["name"] == name:
            return dict(arm)
    names = [arm["name"] for arm in task["arms"]]
    raise ValueError(f"task {task['name']}: the baseline {name!r} is not among its arms {names}; add it to the study.")


def _compare(arm: Record, baseline: Record, *, margin: float, num_tests: int) -> Comparison:
    reference = {run["seed"]: run["test"] for run in baseline["runs"]}
    paired = [(run["test"], reference[run["seed"]]) for run in arm["runs"] if run["seed"] in reference]
    if not paired:
        raise ValueError(f"{arm['name']} and {baseline['name']} share no seed; run both with the same seeds.")
    scores, references = zip(*paired, strict=True)
    return compare_with_baseline(scores, references, margin=margin, alpha=ALPHA, num_tests=num_tests)


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values; a test that could not be made stays None and does not count."""
    made = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(made, method="holm")[1].tolist() if made else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def _verdict(equivalence: float | None, difference: float | None) -> str:
    if equivalence is not None and equivalence < ALPHA:
        return "equivalent"
    if difference is not None and difference < ALPHA:
        return "different"
    return "not decided"


def _sentence(found: Record, task: Record) -> str:
    arm, baseline, place = found["arm"], found["baseline"], f"on {task['name']}"
    margin = points(found["margin"])
    if found["verdict"] == "equivalent":
        text = f"{arm} and {baseline} are equivalent {place}: {_evidence(found, task)} lies within ±{margin} points"
        text += f" (TOST p {p_value(found['tost_p_adjusted'])}{_holm_words(found)})"
        if found["ttest_p_adjusted"] < ALPHA:
            size, side = points(abs(found["difference"])), _side(found)
            text += f"; a difference of {size} points ({side}) is there, but it is smaller than the margin"
    elif found["verdict"] == "different":
        text = f"{arm} is {_side(found)} than {baseline} {place}: {_evidence(found, task)} is significant"
        text += f" (paired t test p {p_value(found['ttest_p_adjusted'])}{_holm_words(found)}; margin ±{margin} points)"
    else:
        text = f"Not decided whether {arm} and {baseline} are equivalent {place} within ±{margin} points: "
        text += f"{_evidence(found, task)}; {_outlook(found)}"
    return text + _divergence(found) + "."


def _side(found: Record) -> str:
    return "better" if found["difference"] > 0 else "worse"


def _evidence(found: Record, task: Record) -> str:
    metric = METRICS.get(task["metric"], task["metric"])
    text = f"the difference of {points(found['difference'], sign=True)} points of {metric}"
    details = [f"n = {found['n']} {'seed' if found['n'] == 1 else 'seeds'}"]
    if found["n"] > 1:
        low, high = (points(end, sign=True) for end in found["bootstrap_interval"])
        interval = f"95 % interval {low} to {high}"
        if found["n"] < FEW_SEEDS:
            low, high = (points(end, sign=True) for end in found["t_interval"])
            interval += f" by bootstrap, {low} to {high} by Student's t"
        details.insert(0, interval)
    return f"{text} ({', '.join(details)})"


def _holm_words(found: Record) -> str:
    return f", Holm over {found['num_tasks']} tasks" if found["num_tasks"] > 1 else ""


def _outlook(found: Record) -> str:
    if found["n"] == 1:
        return "one seed has no spread and allows no test; run at least three"
    smallest = points(found["smallest_detectable_effect"])
    text = f"the smallest difference that this study could have seen (power .8) is {smallest} points"
    seeds = found["more_seeds_needed"]
    if seeds is None:
        return f"{text}, and more than {MOST_SEEDS} further seeds would be needed at this difference and spread"
    more = f"{seeds} more {'seed' if seeds == 1 else 'seeds'}"
    return f"{text}, and about {more} would decide at this difference and spread"


def _divergence(found: Record) -> str:
    parts = [f"{count} of {name}" for name, count in found["diverged"].items() if count]
    return f"; diverged runs, counted with the score they have: {', '.join(parts)}" if parts else ""
