"""A verdict in words: one sentence that carries its own evidence.

It names the difference, its interval, the number of seeds and the margin, and where nothing is decided, why not and
what would decide. Scores that are shares are printed in points, hundredths of a score; others in their own unit.
"""

import math
from collections.abc import Sequence

from hf_warmup.statistics.metrics import Metric, Record, metric_of
from hf_warmup.statistics.paired import SIGN_FLIP_SEEDS
from hf_warmup.statistics.power import MOST_SEEDS


ALPHA = 0.05


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


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def which_look(look: int, looks: int) -> str:
    """A look in words.

    >>> which_look(2, 5), which_look(1, 1), which_look(3, 12)
    ('the second of five looks', 'the only look', 'look 3 of 12')
    """
    if looks == 1:
        return "the only look"
    if looks > len(_CARDINALS):
        return f"look {look} of {looks}"
    return f"the {_ORDINALS[look - 1]} of {_CARDINALS[looks - 1]} looks"


def sentence(found: Record, task: Record) -> str:
    """The sentence of one verdict.

    Args:
        found: the verdict's fields, see `add_verdicts`.
        task: the task's results; its name may be empty.
    """
    metric = metric_of(task)
    place = f" on {task['name']}" if task["name"] else ""
    words = {"equivalent": _equivalent, "different": _different, "nothing was learned": _unlearned}
    text = words.get(found["verdict"], _undecided)(found, metric, place)
    return text + _look(found) + _caveats(found) + "."


def simultaneous_sentence(p_values: dict[str, float], baseline: str) -> str:
    """What Dunnett's test says of all arms at once.

    >>> simultaneous_sentence({"a": 0.0002, "b": 0.4}, "radam")
    "All 2 arms against radam at once (Dunnett's test, runs unpaired): a differs (p < .001); b does not (p = .400)."
    """
    differ = [name for name, p in p_values.items() if p < ALPHA]
    others = [name for name in p_values if name not in differ]
    parts = []
    for names, one, many, extreme in ((differ, "differs", "differ", max), (others, "does not", "do not", min)):
        if names:
            bound = "" if len(names) == 1 else f"{'largest' if names is differ else 'smallest'} "
            p = p_value(extreme(p_values[name] for name in names))
            parts.append(f"{', '.join(names)} {one if len(names) == 1 else many} ({bound}p {p})")
    if not differ:
        parts = [f"none differs (smallest p {p_value(min(p_values.values()))})"]
    return f"All {len(p_values)} arms against {baseline} at once (Dunnett's test, runs unpaired): {'; '.join(parts)}."


def is_scored(run: Record) -> bool:
    """Whether a run has a score."""
    return run["test"] is not None and math.isfinite(run["test"])


def unscored_word(runs: Sequence[Record]) -> str | None:
    """What stands in a table where an arm with such runs has no verdict; None if all its runs have a score.

    >>> unscored_word([{"test": None, "diverged": True, "seed": 0}, {"test": 0.5, "seed": 1}])
    'diverged (1 of 2)'
    """
    lost = _unscored(runs)
    if not any(lost.values()):
        return None
    [(kind, found), *others] = [(kind, found) for kind, found in lost.items() if found]
    return f"{'no score' if others else kind} ({sum(map(len, lost.values()))} of {len(runs)})"


def unscored_sentence(arm: str, runs: Sequence[Record], task: str) -> str:
    """What is said of an arm with runs that have no score, and why they have none.

    >>> runs = [{"test": None, "diverged": True, "seed": 0}, {"test": None, "failed": "OSError: full", "seed": 1}]
    >>> unscored_sentence("adamw", runs, "digits")
    'adamw cannot be judged on digits: 1 of its 2 runs diverged (seed 0); 1 of its 2 runs failed (OSError: full).'
    >>> unscored_sentence("adamw", [{"test": None, "diverged": True, "seed": seed} for seed in range(5)], "")
    'adamw cannot be judged: it diverged on all 5 seeds.'
    """
    lost, n = _unscored(runs), len(runs)
    parts = []
    if found := lost["diverged"]:
        seeds = ", ".join(str(run["seed"]) for run in found)
        some = f"{_some(found, n)} diverged (seed{'s' * (len(found) > 1)} {seeds})"
        parts.append(some if len(found) < n or n == 1 else f"it diverged on all {n} seeds")
    if found := lost["failed"]:
        reasons = list(dict.fromkeys(run["failed"] for run in found))
        several = f"; {len(reasons) - 1} with other reasons" if reasons[1:] else ""
        parts.append(f"{_some(found, n)} failed ({reasons[0]}{several})")
    if found := lost["no score"]:
        have = "has" if len(found) == 1 else "have"
        parts.append(f"{_some(found, n)} {have} no score (not a number)")
    return f"{arm} cannot be judged{f' on {task}' if task else ''}: {'; '.join(parts)}."


def _some(runs: Sequence[Record], n: int) -> str:
    return "its only run" if n == 1 else f"{len(runs)} of its {n} runs"


def _unscored(runs: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs without a score, by what became of them."""
    lost = [run for run in runs if not is_scored(run)]
    failed = [run for run in lost if run.get("failed")]
    diverged = [run for run in lost if run.get("diverged") and run not in failed]
    return {
        "diverged": diverged,
        "failed": failed,
        "no score": [run for run in lost if run not in failed and run not in diverged],
    }


def _equivalent(found: Record, metric: Metric, place: str) -> str:
    margin = f"±{metric.number(found['margin'])}{metric.suffix}"
    text = f"{found['arm']} and {found['baseline']} are equivalent{place}: {_difference(found, metric)} lies within "
    text += f"{margin} (TOST p {_p(found, 'tost')})"
    if found["ttest_p_adjusted"] < found["level_difference"]:
        size, side = metric.number(abs(found["difference"])), metric.side(found["difference"])
        text += f"; a difference of {size}{metric.suffix} ({side}) is there, but it is smaller than the margin"
    return text


def _different(found: Record, metric: Metric, place: str) -> str:
    margin = f"±{metric.number(found['margin'])}{metric.suffix}"
    text = f"{found['arm']} is {metric.side(found['difference'])} than {found['baseline']}{place}: "
    text += f"{_difference(found, metric)} is significant (paired t test p {_p(found, 'ttest')}; margin {margin})"
    if (found["sign_flip_p"] or 0.0) >= ALPHA and found["n"] >= SIGN_FLIP_SEEDS:
        text += f"; a sign-flip test does not confirm it (p {p_value(found['sign_flip_p'])}), so look at the scores"
    return text


def _unlearned(found: Record, metric: Metric, place: str) -> str:
    return (
        f"Nothing was learned by {found['arm']} and {found['baseline']}{place}: in {found['unlearned_pairs']} of "
        f"{found['n']} pairs both runs score as a constant prediction does, or end with a training loss that has not "
        f"fallen; such runs decide nothing"
    )


def _undecided(found: Record, metric: Metric, place: str) -> str:
    margin = f"±{metric.number(found['margin'])}{metric.suffix}"
    text = f"Not decided whether {found['arm']} and {found['baseline']} are equivalent{place} within {margin}: "
    return f"{text}{_difference(found, metric)}; {_outlook(found, metric)}"


def _difference(found: Record, metric: Metric) -> str:
    text = f"the difference of {metric.number(found['difference'], sign=True)}{metric.suffix} "
    text += f"{'of' if metric.in_points else 'in'} {metric.words}"
    details = [f"n = {found['n']} {'seed' if found['n'] == 1 else 'seeds'}"]
    if found["t_interval"]:
        low, high = (metric.number(end, sign=True) for end in found["t_interval"])
        details.insert(0, f"95 % interval {low} to {high}")
    return f"{text} ({', '.join(details)})"


def _p(found: Record, kind: str) -> str:
    """The p value and what it was held against, unless that is the plain level."""
    text = p_value(found[f"{kind}_p_adjusted"])
    if found["look"]:
        level = found["level_difference" if kind == "ttest" else "level_equivalence"]
        return f"{text}, level {level:.4f}".replace("level 0.", "level .")
    return text + (f", Holm over {found['num_tasks']} tasks" if found["num_tasks"] > 1 else "")


def _outlook(found: Record, metric: Metric) -> str:
    if found["n"] == 1:
        return "one seed has no spread and allows no test; run at least three"
    if found["ttest_p"] is None:
        return (
            f"{found['note']} (one step of the score is {metric.number(found['resolution'])}{metric.suffix}); "
            f"run more seeds, or score more test examples"
        )
    smallest = f"{metric.number(found['smallest_detectable_effect'])}{metric.suffix}"
    text = f"the smallest difference that this study could have seen (power .8) is {smallest}"
    plans = {
        "show equivalence": found["more_seeds_for_equivalence"],
        "show a difference": found["more_seeds_for_difference"],
    }
    known = sorted((seeds, what) for what, seeds in plans.items() if seeds is not None)
    if not known:
        return f"{text}, and more than {MOST_SEEDS} further seeds would be needed at this difference and spread"
    more = " and ".join(f"about {seeds} would {what}" for seeds, what in known)
    more = more.replace(" would", f" more {'seed' if known[0][0] == 1 else 'seeds'} would", 1)
    return f"{text}; {more} with power .8, if this difference is the true one"


def _look(found: Record) -> str:
    if found["look"]:
        decided = "not decided" if found["verdict"] == "not decided" else "decided"
        return f"; {decided} at {which_look(found['look'], found['looks'])}"
    if found["error_rate"] is None:
        return ""
    return (
        f"; seeds were added outside a plan, so that a difference which is not there is found in about "
        f"{math.ceil(100 * found['error_rate'])} % of such studies, not in {100 * ALPHA:g} %"
    )


def _caveats(found: Record) -> str:
    text = ""
    for key, words in (
        ("diverged", "diverged runs, counted with the score they have"),
        ("unlearned", "runs that learned nothing"),
    ):
        parts = [f"{count} of {name}" for name, count in found[key].items() if count]
        if parts and not (key == "unlearned" and found["verdict"] == "nothing was learned"):
            text += f"; {words}: {', '.join(parts)}"
    return text
