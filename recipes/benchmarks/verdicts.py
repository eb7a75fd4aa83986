"""How often verdicts are wrong, and how often they come: simulated with the package's own tests and levels.

    python recipes/benchmarks/verdicts.py --out recipes/benchmarks/results

Differences of n pairs are drawn, tested as studies test them, and counted. `error` is the larger of false "different"
(no true difference) and false "equivalent" (a true difference of exactly the margin). Kinds: normal; skewed
(exponential); steps (normal, in steps of the score; the number is the standard deviation in steps); examples (two runs
scored on 300 test examples each). A plan is counted at its last look, and so holds whatever look ends an arm.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from hf_warmup.statistics.paired import bootstrap_interval, paired_tests
from hf_warmup.statistics.power import seeds_for_difference, seeds_for_equivalence
from hf_warmup.statistics.sequential import SPENDING, Plan


ALPHA = 0.05
SIZES = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40)
PLANS = ((5, 8, 12, 20, 30), (5, 10, 20, 40), (8, 12, 20, 30), (6, 10, 16, 24, 40), tuple(range(5, 41)))
# Margins in standard deviations of the differences.
MARGINS = (0.5, 1.0, 3.0)

Draw = Callable[[np.random.Generator, tuple[int, int]], Any]


def steps(deviation: float) -> Draw:
    """Normal differences of one standard deviation, rounded to steps of 1 / `deviation`."""
    return lambda rng, shape: np.round(rng.normal(0.0, deviation, shape)) / deviation


def examples(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Accuracies of two runs on 300 examples, each run with an accuracy of its own, in standard deviations."""
    arm, baseline = (rng.binomial(300, np.clip(rng.normal(0.95, 0.01, shape), 0, 1)) / 300 for _ in range(2))
    return (arm - baseline) / EXAMPLES_SD


# Variance of one score: .95 (1 - .95) / 300, and the runs' own .01 squared.
EXAMPLES_SD = float(np.sqrt(2 * (0.95 * 0.05 / 300 + 0.01**2)))
# Draws of mean 0 and standard deviation about 1, and the resolution of their scores.
KINDS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "steps 4": (steps(4.0), 1 / 4),
    "steps 2": (steps(2.0), 1 / 2),
    "steps 1": (steps(1.0), 1.0),
    "steps 0.5": (steps(0.5), 2.0),
    "examples": (examples, 1 / 300 / EXAMPLES_SD),
    "skewed": (lambda rng, shape: rng.exponential(size=shape) - 1, 0.0),
}


def fixed(kind: str, n: int, replications: int, rng: np.random.Generator) -> dict[str, float | None]:
    """Rates of one look at `n` pairs: errors, coverage of the t interval, power without and with a difference."""
    draw, resolution = KINDS[kind]
    differences = draw(rng, (replications, n))
    tests = paired_tests(differences, margin=1.0, resolution=resolution)
    half = t.isf(ALPHA / 2, n - 1) * tests.spread / np.sqrt(n)
    known = ~np.isnan(tests.ttest_p)
    found = {
        "false different": _share(tests.ttest_p < ALPHA),
        "false equivalent": max(
            _share(paired_tests(differences + side * margin, margin=margin, resolution=resolution).tost_p < ALPHA)
            for margin in MARGINS
            for side in (-1, 1)
        ),
        # Of the intervals that are printed: there is none where the spread is unknown.
        "coverage": _share((np.abs(tests.difference) <= half)[known]) if known.any() else None,
        "equivalent at margin 1 sd": _share(tests.tost_p < ALPHA),
    }
    there = paired_tests(differences + 1.0, margin=1e-9, resolution=resolution)
    return {**found, "different at 1 sd": _share(there.ttest_p < ALPHA)}


def sequential(kind: str, plan: Plan, replications: int, rng: np.random.Generator) -> dict[str, float]:
    """Rates of all looks together; an error counts even where an earlier look has decided rightly."""
    draw, resolution = KINDS[kind]
    differences = draw(rng, (replications, plan.looks[-1]))
    last = plan.looks[-1]

    def looks(shift: float, margin: float) -> tuple[Any, Any, Any]:
        """Whether "different" and "equivalent" were ever found, and the pairs at the first decision."""
        different, equivalent = np.zeros((2, replications), dtype=bool)
        at = np.full(replications, last)
        for n in reversed(plan.looks):
            tests = paired_tests(differences[:, :n] + shift, margin=margin, resolution=resolution)
            level_different, level_equivalent = plan.levels(n)
            found = tests.ttest_p < level_different, tests.tost_p < level_equivalent
            different, equivalent = different | found[0], equivalent | found[1]
            at = np.where(found[0] | found[1], n, at)
        return different, equivalent, at

    different, equivalent, at = looks(0.0, 1.0)
    decided, _, at_difference = looks(1.0, 1e-9)
    errors = [looks(side * margin, margin)[1].mean() for margin in MARGINS for side in (-1, 1)]
    return {
        "false different": _share(different),
        "false equivalent": max(float(error) for error in errors),
        "equivalent at margin 1 sd": _share(equivalent),
        "mean n": float(at.mean()),
        "different at 1 sd": _share(decided),
        "mean n at 1 sd": float(at_difference.mean()),
    }


def unplanned(replications: int, rng: np.random.Generator) -> float:
    """False "different" of a person who adds seeds from 3 to 20 until p < .05."""
    differences = rng.normal(size=(replications, 20))
    found = [paired_tests(differences[:, :n], margin=1.0).ttest_p < ALPHA for n in range(3, 21)]
    return _share(np.any(found, axis=0))


def intervals(kind: str, n: int, replications: int, rng: np.random.Generator) -> dict[str, float]:
    """Coverage of the 95 % intervals of the mean: Student's t and BCa."""
    draw, resolution = KINDS[kind]
    covered = {"t": [0, 0], "BCa": [0, 0]}
    for differences in draw(rng, (replications, n)):
        spread = differences.std(ddof=1)
        if spread == 0 or spread < resolution * (1 - 1e-6):
            continue
        half = t.isf(ALPHA / 2, n - 1) * spread / np.sqrt(n)
        low, high, _ = bootstrap_interval(differences, ALPHA, resamples=999)
        for name, inside in (("t", abs(differences.mean()) <= half), ("BCa", low <= 0 <= high)):
            covered[name][0] += bool(inside)
            covered[name][1] += 1
    return {name: hits / count for name, (hits, count) in covered.items()}


def planned_power(effect: float, margin: float, first: int, replications: int, rng: np.random.Generator) -> float:
    """How often a study decides as its plan says, once the planned seeds were run.

    The plan takes the true difference, as it says, and the spread of the first pairs; all pairs are then tested.
    """
    reached = []
    for _ in range(replications):
        differences = rng.normal(effect, 1.0, first)
        spread = float(differences.std(ddof=1))
        different = seeds_for_difference(effect, spread, first)
        equivalent = seeds_for_equivalence(effect, spread, first, margin=margin)
        known = [seeds for seeds in (different, equivalent) if seeds is not None]
        if known:
            tests = paired_tests(np.append(differences, rng.normal(effect, 1.0, min(known))), margin=margin)
            reached.append(bool((tests.ttest_p < ALPHA) | (tests.tost_p < ALPHA)))
    return float(np.mean(reached))


def simulate(
    replications: int, *, sizes: Sequence[int] = SIZES, plans: Sequence[tuple[int, ...]] = PLANS, slow: int
) -> dict[str, Any]:
    """Every table; `slow` replications where each costs a bootstrap or a plan."""
    rng = np.random.default_rng(0)
    cases = [(effect, margin, first) for effect, margin in ((0.0, 1.0), (1.0, 0.1)) for first in (3, 5, 8)]
    return {
        "replications": replications,
        "slow_replications": slow,
        "fixed": {kind: {n: fixed(kind, n, replications, rng) for n in sizes} for kind in KINDS},
        "sequential": {
            f"{spending} {_name(looks)}": {
                kind: sequential(kind, Plan(looks=looks, spending=spending), replications, rng) for kind in KINDS
            }
            for looks in plans
            for spending in SPENDING
        },
        "unplanned, 3 to 20": unplanned(replications, rng),
        "intervals": {
            kind: {n: intervals(kind, n, slow, rng) for n in (3, 5, 9, 12, 20, 30, 40)}
            for kind in ("normal", "steps 2", "skewed")
        },
        "planned power": {
            f"difference {effect:g}, margin {margin:g}, first {first}": planned_power(effect, margin, first, slow, rng)
            for effect, margin, first in cases
        },
    }


def tables(found: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{found['replications']} replications; {found['slow_replications']} of intervals and planned power."]

    def table(title: str, rows: dict[Any, dict[str, float | None]]) -> None:
        columns = list(next(iter(rows.values())))
        lines.extend(["", title, f"{'':>12} " + " | ".join(columns)])
        for name, row in rows.items():
            cells = (_number(row[column], 1 if "mean" in column else 3).rjust(len(column)) for column in columns)
            lines.append(f"{name!s:>12} " + " | ".join(cells))

    for kind, rows in found["fixed"].items():
        table(f"One look at n pairs, {kind}:", rows)
    for plan, rows in found["sequential"].items():
        table(f"Looks declared beforehand, {plan}:", rows)
    for kind, rows in found["intervals"].items():
        table(f"Coverage of 95 % intervals, {kind}:", rows)
    lines += ["", f"Seeds added without a plan, 3 to 20: false different {found['unplanned, 3 to 20']:.3f}"]
    lines += [
        "",
        "Power of the planned number of seeds:",
        *(f"{k}: {v:.3f}" for k, v in found["planned power"].items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, print, and store where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=100_000)
    parser.add_argument("--slow-replications", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="folder for verdicts.json and verdicts.txt")
    arguments = parser.parse_args()
    found = simulate(arguments.replications, slow=arguments.slow_replications)
    text = tables(found)
    print(text, end="")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "verdicts.json").write_text(json.dumps(found, indent=1) + "\n")
        (arguments.out / "verdicts.txt").write_text(text)


def _number(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _share(hits: Any) -> float:
    return float(np.mean(hits))


def _name(looks: tuple[int, ...]) -> str:
    return ", ".join(map(str, looks)) if len(looks) < 8 else f"every n from {looks[0]} to {looks[-1]}"


if __name__ == "__main__":
    main()
