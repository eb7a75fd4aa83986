"""With noisy gradients the same functions separate warmup from schedules that never increase by about sqrt T.

    python recipes/theory/stochastic_gap.py [--out FOLDER]

Functions f and starts (X, 0) are those of `walled_valley`. A gradient is seen as

    g = grad f (1 + sqrt B xi) + (0, sqrt(A f + C) zeta),   xi and zeta independent signs, A = 0.1, B = 1/4, C = 1,

so E||g - grad f||^2 = A f + B ||grad f||^2 + C: the ABC noise of Liu, Ge, Pan, Kang & Zhang (arXiv 2509.07972), with
equality. Their constructions could not be read; this one, its proof and its Monte Carlo are ours.

Theorem. If eta_0 >= eta_1 >= ... >= 0, even chosen on the way from what was seen, E f_T >= log(1 + 1/e) = 0.313.
Proof. If eta_0 >= 1 / T, then with probability 1/2 xi = 1 and x_1 = X - 1.5 eta_0 sinh X <= -b: on the plateau there
is no gradient in x and so no noise in x, x stays and f_T >= 1. As f >= 0, E f_T >= 1/2. Otherwise eta_t < 1 / T for
all t, and E[y_(t+1) | past] = y_t + eta_t / (1 + exp y_t) <= y_t + 1 / T, so E y_T <= 1, and as log(1 + exp(-y)) is
convex and falls, E f_T >= log(1 + exp(-E y_T)) >= log(1 + exp(-1)).

The rule is peak / (1 + peak f), peak <= 1 (see `walled_valley.rule`), on the true f. It never ruins a run: on the wall
it moves x by less than 1.5 tanh x, so x stays above min(x - 1.5 tanh x) > -0.21, and from there it moves towards 0 and
not past 0.11. That E f_T is of order 1 / sqrt T is measured and not proven; for a peak large beside 1 / sqrt T, a
diffusion that is reflected near y = log(1 / peak) suggests 1 / sqrt(2 pi T), whatever the peak.

Peaks are chosen with other seeds than those of the numbers reported, on both sides.

Deliberately absent: an f that is measured with noise too, and f* that is not known.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from common import DOTS, STYLES, Array, Record, Step, fitted_slope, log_axes, nonincreasing, power, run, scheduled
from matplotlib.figure import Figure
from walled_valley import NOISE, descend, noisy_gradient, rule


LENGTHS = (100, 316, 1000, 3162, 10_000, 31_623, 100_000)
FLOOR = float(np.log1p(np.exp(-1)))
PEAKS = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the rule, times 1 / sqrt T; at most 1
FIRST_STEPS = (0.3, 0.6, 0.9, 1.5, 3.0)  # of the others, times 1 / T
SHAPES = ("constant", "linear to 0", "1 / (t + 1)^0.5")
CHOICE_SEED, BEST_SEED, RULE_SEED = 1, 2, 3
CHOICE_RUNS, REPORT_RUNS = 128, 800


def final_losses(length: int, step: Step, runs: int, seed: int) -> Array:
    """f after T updates, runs along the last axis."""
    return descend(length, step, noisy_gradient(np.random.default_rng([seed, length]), runs))


def mean(losses: Array, **more: object) -> Record:
    """Mean over runs with its standard error."""
    error = losses.std(ddof=1) / sqrt(len(losses))
    return {"f": float(losses.mean()), "standard_error": float(error), "n": len(losses), **more}


def compare(length: int, runs: int = REPORT_RUNS) -> Record:
    """E f after T updates: best schedule that never increases, rule with peak 1 / sqrt T, rule with the best peak."""
    shapes = np.stack([nonincreasing(length)[name] for name in SHAPES])
    first, peaks = np.array(FIRST_STEPS)[:, None] / length, np.minimum(1, np.array(PEAKS)[:, None] / sqrt(length))
    grid = final_losses(length, scheduled(shapes, first), CHOICE_RUNS, CHOICE_SEED).mean(axis=-1)
    i, j = np.unravel_index(grid.argmin(), grid.shape)
    best = final_losses(length, scheduled(shapes[[i]], first[[j]]), runs, BEST_SEED)[0, 0]
    k = final_losses(length, rule(length, peaks), CHOICE_RUNS, CHOICE_SEED).mean(axis=-1).argmin()
    untuned, tuned = final_losses(length, rule(length, np.stack([peaks[0], peaks[k]])), runs, RULE_SEED)
    row: Record = {"T": length, "rule": mean(untuned)}
    row["tuned_rule"] = mean(tuned, peak_times_sqrt_T=float(peaks[k, 0] * sqrt(length)))
    return {**row, "best": mean(best, schedule=SHAPES[i], first_step_times_T=FIRST_STEPS[j])}


def study(lengths: Sequence[int] = LENGTHS, runs: int = REPORT_RUNS) -> Record:
    """The comparison at each length, and slopes of (best that never increases) / rule against T, also at larger T."""
    rows = [compare(length, runs) for length in lengths]
    slopes: Record = {}
    # In short runs the way down the wall takes a good part.
    third = len(lengths) // 3
    for name in ("rule", "tuned_rule"):
        ratios = [row["best"]["f"] / row[name]["f"] for row in rows]
        slopes[name] = fitted_slope(lengths, ratios)
        slopes[f"{name}_large"] = fitted_slope(lengths[third:], ratios[third:])
    choice: Record = {"runs": CHOICE_RUNS, "peaks_times_sqrt_T": PEAKS}
    choice |= {"schedules": SHAPES, "first_steps_times_T": FIRST_STEPS}
    seeds = {"choice": CHOICE_SEED, "best": BEST_SEED, "rules": RULE_SEED}
    config = {"lengths": list(lengths), "runs": runs, "noise": NOISE, "choice": choice, "seeds": seeds}
    return {"config": config, "floor": FLOOR, "slopes": slopes, "rows": rows}


def plus_minus(value: Record) -> str:
    """Mean and standard error as text."""
    return f"{value['f']:.4f} +- {value['standard_error']:.4f}"


def describe(results: Record) -> str:
    """What is shown, in three sentences."""
    end, config, slopes = results["rows"][-1], results["config"], results["slopes"]
    large = f"from T = {config['lengths'][len(config['lengths']) // 3]:,} on"
    return (
        f"With noisy gradients no schedule that never increases has an expected loss below {results['floor']:.3f} "
        f"here; for T = {end['T']:,} the best found has {plus_minus(end['best'])} and the warmup rule with peak "
        f"1 / sqrt T has {plus_minus(end['rule'])}, mean and standard error of {config['runs']} runs. Their ratio "
        f"grows like {power(slopes['rule'])}, {large} like {power(slopes['rule_large'])}; with the rule's peak tuned "
        f"for each T like {power(slopes['tuned_rule'])}, {large} like {power(slopes['tuned_rule_large'])}. The floor "
        f"is proven, the growth measured; the functions are made for this and not convex, and the rule is told the "
        f"true f."
    )


def draw(results: Record) -> Figure:
    """Left: expected loss after T updates. Right: ratios, beside the square root of T."""
    figure = Figure(figsize=(9.2, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = results["rows"]
    lengths = [row["T"] for row in rows]
    labels = ("best that never increases", "warmup rule, peak $1/\\sqrt{T}$", "warmup rule, peak tuned")
    for name, label, style in zip(("best", "rule", "tuned_rule"), labels, ("best", "rule", "other"), strict=True):
        means = np.array([row[name]["f"] for row in rows])
        errors = [1.96 * row[name]["standard_error"] for row in rows]
        left.errorbar(lengths, means, errors, **STYLES[style], **DOTS, capsize=2, label=label)
        if name != "best":
            right.plot(lengths, [row["best"]["f"] for row in rows] / means, **STYLES[style], **DOTS)
    left.plot(lengths, len(rows) * [results["floor"]], **STYLES["floor"], label="their floor (theorem)")
    right.plot(lengths, np.sqrt(lengths), **STYLES["guide"], label="$\\sqrt{T}$")
    left.set(title="Expected loss after $T$ updates (bars: 95%)", xlabel="$T$ (updates)", ylabel="mean of $f$")
    right.set(title="Best that never increases / warmup rule", xlabel="$T$ (updates)", ylabel="ratio of means")
    log_axes(left)
    log_axes(right)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    run(__file__, study, describe, draw)
