"""Verdicts on a study: is each arm equivalent to the baseline, different from it, or is that not decided?

Over several tasks the p values are adjusted by Holm's method, arm by arm; over looks that were declared beforehand,
the levels are those of the plan. Each arm asks its own question, and beside it stands what Dunnett's test says of all
arms at once. Runs that learned nothing decide nothing. Deliberately absent: words (`sentences`).
"""

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy import stats

from hf_warmup.statistics.metrics import Record, metric_of
from hf_warmup.statistics.paired import Comparison, compare_with_baseline
from hf_warmup.statistics.resolution import score_resolution
from hf_warmup.statistics.sentences import ALPHA, is_scored, sentence, simultaneous_sentence, unscored_sentence
from hf_warmup.statistics.sequential import Plan, false_different


DECIDED = ("equivalent", "different")
# Fields that say how many more seeds would decide.
PLANNED = ("more_seeds_needed", "more_seeds_for_difference", "more_seeds_for_equivalence")


def add_verdicts(results: Record) -> Record:
    """A study's results with what its scores show.

    Args:
        results: a study's `results.json`; it is not changed. What it may hold beside older documents:
            `plan` (fields of `Plan`: looks declared beforehand), `looks_without_plan` (numbers of seeds at which the
            study was judged outside a plan); in a task `constant_score` (score or scores of constant predictions on
            the test part), `resolution`, and of a metric that is not in `METRICS` its `lower_is_better`, `in_points`
            and `unit`; in a run `loss_fell` (whether the training loss ended lower than it began).

    Returns:
        The same document, in which each arm has `mean`, `sd` (None for one run) and `n` of its test scores, and each
        task `verdicts`: for every arm but the baseline the fields of `Comparison`, the p values adjusted over tasks
        and their levels, `verdict` ("equivalent", "different", "not decided", "nothing was learned"), `sentence`, the
        medians of the steps to the target, and `simultaneous_p`; and `simultaneous`, the sentence on all arms at once.
        Where an arm has runs whose score is None or not finite, it gets no verdict and no mean, and the task says so
        and why in `unscored`, a sentence by the arm's name; without the baseline's scores no arm has a verdict.

    Raises:
        ValueError: if a task lacks the baseline, or an arm shares no seed with it.
    """
    baseline = results["baseline"]
    tasks = [_with_scores(task, baseline) for task in results["tasks"]]
    verdicts: list[list[Record]] = [[] for _ in tasks]
    for name in dict.fromkeys(arm["name"] for task in tasks for arm in task["arms"]):
        indices = [
            i
            for i, task in enumerate(tasks)
            if any(arm["name"] == name for arm in task["arms"])
            and not task.get("unscored", {}).keys() & {name, baseline}
        ]
        if name == baseline:
            continue
        family = [tasks[i] for i in indices]
        for i, found in zip(indices, _judge(name, results, family), strict=True):
            verdicts[i].append(found)
    return {
        **results,
        "tasks": [_with_verdicts(task, found, baseline) for task, found in zip(tasks, verdicts, strict=True)],
    }


def median_steps(steps: Sequence[int | None]) -> dict[str, Any]:
    """Median of the updates until a target was reached, where None means never.

    A run that never reached it counts as later than all others, so the median is None unless more than half of the
    runs reached the target.

    >>> median_steps([240, None, 300])
    {'median': 300.0, 'reached': 2, 'n': 3}
    """
    median = float(statistics.median([math.inf if step is None else step for step in steps])) if steps else math.inf
    return {
        "median": median if math.isfinite(median) else None,
        "reached": sum(step is not None for step in steps),
        "n": len(steps),
    }


def dunnett(task: Record, baseline: str, names: Sequence[str]) -> dict[str, float]:
    """p values of "no difference from the baseline" that hold for all arms at once; empty where no test can be made.

    The runs count as unpaired and all arms as equally spread, which is what Dunnett's test asks for; looks are not
    counted.

    Source: Dunnett, J. American Statistical Association 50, 1955.
    """
    scores = {name: [run["test"] for run in _arm(task, name)["runs"]] for name in (baseline, *names)}
    spreads = [stdev(values) for values in scores.values() if len(values) > 1]
    if len(names) < 2 or len(spreads) <= len(names) or max(spreads) < _resolution(task):
        return {}
    control = scores.pop(baseline)
    with warnings.catch_warnings():
        # scipy warns of an arm whose runs all have one score; the spread is pooled over arms, and is there.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        found = stats.dunnett(*scores.values(), control=control, rng=np.random.default_rng(0))
    return {name: float(p) for name, p in zip(scores, np.clip(found.pvalue, 0.0, 1.0), strict=True)}


def _with_scores(task: Record, baseline: str) -> Record:
    """A task with the mean of each arm; arms with runs that have no score get a sentence instead."""
    unscored = {
        arm["name"]: unscored_sentence(arm["name"], arm["runs"], task["name"])
        for arm in task["arms"]
        if not all(map(is_scored, arm["runs"]))
    }
    if baseline in unscored:
        unscored[baseline] = f"{unscored[baseline][:-1]}; so no arm can be compared with it."
    arms = [_with_mean(arm, known=arm["name"] not in unscored) for arm in task["arms"]]
    return {**task, "arms": arms, **({"unscored": unscored} if unscored else {})}


def _with_mean(arm: Record, *, known: bool) -> Record:
    # A mean of the runs that have a score would flatter an arm whose other runs were lost.
    scores = [run["test"] for run in arm["runs"]] if known else []
    sd = stdev(scores) if len(scores) > 1 else None
    return {**arm, "mean": fmean(scores) if scores else None, "sd": sd, "n": len(arm["runs"])}


def _with_verdicts(task: Record, verdicts: list[Record], baseline: str) -> Record:
    learned = [found["arm"] for found in verdicts if found["verdict"] != "nothing was learned"]
    p_values = dunnett(task, baseline, learned) if learned else {}
    found = [{**verdict, "simultaneous_p": p_values.get(verdict["arm"])} for verdict in verdicts]
    words = simultaneous_sentence(p_values, baseline) if p_values else None
    return {**task, "verdicts": found, "simultaneous": words}


def _judge(name: str, results: Record, tasks: Sequence[Record]) -> list[Record]:
    """Verdicts on one arm, a family of tests over `tasks`."""
    pairs = [(_arm(task, name), _arm(task, results["baseline"])) for task in tasks]
    levels = [_levels(results, len(_paired_runs(*pair)), len(tasks)) for pair in pairs]
    comparisons = [
        _compare(*pair, task, num_tests=len(tasks), levels=level)
        for task, pair, level in zip(tasks, pairs, levels, strict=True)
    ]
    equivalence = _holm([comparison.tost_p for comparison in comparisons])
    difference = _holm([comparison.ttest_p for comparison in comparisons])
    return [
        _judged(task, pair, comparison, _adjusted(equivalence[i], difference[i], len(tasks)), levels[i])
        for i, (task, pair, comparison) in enumerate(zip(tasks, pairs, comparisons, strict=True))
    ]


def _adjusted(equivalence: float | None, difference: float | None, num_tasks: int) -> Record:
    return {"num_tasks": num_tasks, "tost_p_adjusted": equivalence, "ttest_p_adjusted": difference}


def _judged(
    task: Record, pair: tuple[Record, Record], comparison: Comparison, adjusted: Record, levels: Record
) -> Record:
    """One verdict with everything that it rests on."""
    found: Record = {
        "arm": pair[0]["name"],
        "baseline": pair[1]["name"],
        **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(comparison).items()},
        **adjusted,
        **levels,
        **_unlearned(task, *pair),
        "diverged": {side["name"]: sum(run.get("diverged", False) for run in side["runs"]) for side in pair},
        "steps_to_target": {
            side["name"]: median_steps([run.get("steps_to_target") for run in side["runs"]]) for side in pair
        },
    }
    if found["look"]:  # The plan's levels share alpha over tasks themselves.
        found |= {"tost_p_adjusted": comparison.tost_p, "ttest_p_adjusted": comparison.ttest_p}
    found["verdict"] = _verdict(found)
    if found["verdict"] != "not decided":
        found |= dict.fromkeys(PLANNED)
    return {**found, "sentence": sentence(found, task)}


def _arm(task: Record, name: str) -> Record:
    for arm in task["arms"]:
        if arm["name"] == name:
            return dict(arm)
    names = [arm["name"] for arm in task["arms"]]
    where = f"task {task['name']}: " if task["name"] else ""
    raise ValueError(f"{where}the baseline {name!r} is not among its arms {names}; add it to the study.")


def _paired_runs(arm: Record, baseline: Record) -> list[tuple[Record, Record]]:
    reference = {run["seed"]: run for run in baseline["runs"]}
    paired = [(run, reference[run["seed"]]) for run in arm["runs"] if run["seed"] in reference]
    if not paired:
        raise ValueError(f"{arm['name']} and {baseline['name']} share no seed; run both with the same seeds.")
    return paired


def _compare(arm: Record, baseline: Record, task: Record, *, num_tests: int, levels: Record) -> Comparison:
    pairs = [(run["test"], other["test"]) for run, other in _paired_runs(arm, baseline)]
    scores, references = zip(*pairs, strict=True)
    return compare_with_baseline(
        scores,
        references,
        margin=task["margin"],
        alpha=ALPHA,
        num_tests=num_tests,
        resolution=_resolution(task),
        levels=(levels["level_difference"], levels["level_equivalence"]) if levels["look"] else None,
    )


def _resolution(task: Record) -> float:
    """Smallest step between two scores: as stated, else one test example that counts, else what the scores show."""
    if task.get("resolution") is not None:
        return float(task["resolution"])
    examples = task.get("sizes", {}).get("test")
    if examples and metric_of(task).counts_examples:
        return 1 / float(examples)
    return score_resolution([run["test"] for arm in task["arms"] for run in arm["runs"] if is_scored(run)])


def _unlearned(task: Record, arm: Record, baseline: Record) -> Record:
    """How many runs of each side learned nothing, and in how many pairs both did."""
    constant, near = task.get("constant_score"), _resolution(task) / 2
    constants: list[float] = [] if constant is None else np.atleast_1d(constant).tolist()

    def learned_nothing(run: Record) -> bool:
        # What is not known counts as learned. A loss has no bound, so that it may also be worse than constant.
        above = [run["test"] - score for score in constants]
        worse = metric_of(task).lower_is_better and min(above, default=-1.0) > 0
        return run.get("loss_fell") is False or worse or any(abs(distance) < near for distance in above)

    lost = [[learned_nothing(run) for run in pair] for pair in _paired_runs(arm, baseline)]
    return {
        "unlearned": {side["name"]: sum(pair[i] for pair in lost) for i, side in enumerate((arm, baseline))},
        "unlearned_pairs": sum(all(pair) for pair in lost),
    }


def _levels(results: Record, n: int, num_tasks: int) -> Record:
    """The levels that p values are held against, the look they belong to, and the cost of seeds outside a plan."""
    plain: Record = {"look": None, "looks": None, "error_rate": None}
    plain |= {"level_difference": ALPHA, "level_equivalence": ALPHA}
    if results.get("plan"):
        plan = Plan(**results["plan"])
        difference, equivalence = plan.levels(n, num_tests=num_tasks)
        if plan.look(n):
            levels = {"level_difference": difference, "level_equivalence": equivalence}
            return {**plain, **levels, "look": plan.look(n), "looks": len(plan.looks)}
        return {**plain, "error_rate": plan.error_rate(n)}
    looks = sorted({look for look in results.get("looks_without_plan", []) if 2 < look < n} | {n})
    return {**plain, "error_rate": false_different(looks, [ALPHA] * len(looks)) if len(looks) > 1 else None}


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values; a test that could not be made stays None and does not count.

    Source: Holm, Scandinavian J. Statistics 6, 1979. (statsmodels' function collects garbage, for .2 s a call.)
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = largest
    return adjusted


def _verdict(found: Record) -> str:
    if 2 * found["unlearned_pairs"] > found["n"]:
        return "nothing was learned"
    for word, kind, level in (
        ("equivalent", "tost", found["level_equivalence"]),
        ("different", "ttest", found["level_difference"]),
    ):
        p = found[f"{kind}_p_adjusted"]
        if p is not None and p < level:
            return word
    return "not decided"
