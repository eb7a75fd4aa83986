"""Functions on which schedules that never increase stall for ever, while warmup reaches a loss of order 1 / T.

    python recipes/theory/warmup_gap.py [--out FOLDER]

The functions, f(x, y) = phi(x) + log(1 + exp(-y)) with ||Hess f|| <= 1 + f, and the starts (X, 0) for T updates stand
in `walled_valley`. The question is Liu, Ge, Pan, Kang & Zhang's (arXiv 2509.07972), the answer ours.

Theorem 1. If eta_0 >= eta_1 >= ... >= 0, even chosen on the way, f_T >= log(1 + exp(-1/2)) = 0.474.
Proof. If eta_0 >= 1 / T, x_1 = X - eta_0 sinh X <= -b: x stays on the plateau, f_t >= 1. Otherwise all steps are below
1 / T, and y + eta / (1 + exp y) grows with y (as eta < 4) and with eta, so y_T <= what T steps of 1 / T give, each of
which adds at most 1 / (2T) as y >= 0. Their y_T is at most 1/2; `lower_bound` has it exactly. The part of x is >= 0.

Theorem 2. The rule eta = 1 / (1 + f) has f_T = O(1 / T).
Proof. Let s = log(1 + exp(-y)) <= log 2. For x > 0 the rule takes sinh x / (cosh x + s) < tanh x < x off x: it stays
positive and falls. That grows with x and is > 1/2 at 1, so x <= 1 after at most N = 2 X updates; then sinh x >= x and
cosh x + s < 2.24, so each leaves x at most 0.56 of itself and phi dies out geometrically. As f < 1.24, eta > 0.44.
h(y) = y + exp y is convex with h' = 1 + exp y, so h rises by at least eta an update: h(y_T) > 0.44 (T - N), and as
h(y) <= 2 exp y, log(1 + exp(-y_T)) <= exp(-y_T) < 4.6 / (T - N).

So the ratio of the two is at least of order T; its slope is fitted here. Warmup need not follow the loss to gain this:
a linear one is run too, its first step and peak tuned for each T. Its first step, too, must be below 1 / T.

Deliberately absent: noise (`stochastic_gap`).
"""

from collections.abc import Sequence

import numpy as np
from common import DOTS, STYLES, Array, Record, Step, fitted_slope, log_axes, nonincreasing, power, run, scheduled
from matplotlib.figure import Figure
from walled_valley import EDGE, curve, descend, rule, start


LENGTHS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
FLOOR = float(np.log1p(np.exp(-0.5)))
FIRST_STEPS = np.append(np.geomspace(0.01, 100, 42), 0.99)  # times 1 / T, which itself is the edge of the plateau
PEAKS = np.geomspace(0.01, 10, 25)


def linear(first_step: Array, peak: Array) -> Step:
    """A linear warmup from `first_step` on, up to `peak`."""
    return lambda t, x, y: np.minimum(peak, first_step * (t + 1))


def lower_bound(length: int) -> float:
    """What no schedule that never increases gets below: the part of y after T steps of 1 / T."""
    y = 0.0
    for _ in range(length):
        y += 1 / length / (1 + np.exp(y))
    return float(np.logaddexp(0, -y))


def compare(length: int) -> Record:
    """f after T updates: the bound, the best that never increases, the best linear warmup, and the rule."""
    # The last one goes from X to the bottom, 0, in one update.
    x = start(length)[0]
    first = np.append(FIRST_STEPS, x / (x - EDGE)) / length
    shapes = nonincreasing(length)
    grid = descend(length, scheduled(np.stack(list(shapes.values())), first))
    i, j = np.unravel_index(grid.argmin(), grid.shape)
    ramps = descend(length, linear(first, PEAKS[:, None]))
    k, m = np.unravel_index(ramps.argmin(), ramps.shape)
    return {
        "T": length,
        "bound": lower_bound(length),
        "best": {"f": grid.min(), "schedule": list(shapes)[i], "first_step": first[j]},
        "linear_warmup": {"f": ramps.min(), "first_step": first[m], "peak": PEAKS[k]},
        "rule": {"f": float(descend(length, rule(length, 1.0)))},
    }


def curves(row: Record) -> Record:
    """f along runs of a length: the three of `compare`, and a constant step twice what the plateau allows."""
    length, best, ramp = row["T"], row["best"], row["linear_warmup"]
    steps = best["first_step"] * nonincreasing(length)[best["schedule"]]
    runs: dict[str, Step] = {
        "ruined": lambda t, x, y: np.asarray(2 / length),
        "best": lambda t, x, y: steps[t],
        "linear_warmup": linear(ramp["first_step"], ramp["peak"]),
        "rule": rule(length, 1.0),
    }
    updates = np.unique(np.geomspace(1, length, 100).round().astype(int))
    losses = {name: curve(length, step)[updates].tolist() for name, step in runs.items()}
    return {"T": length, "updates": updates.tolist(), "losses": losses}


def study(lengths: Sequence[int] = LENGTHS) -> Record:
    """The comparison at each length, slopes of the ratios against T, and losses along runs of a middle length."""
    rows = [compare(length) for length in lengths]
    ratios = {name: [row["best"]["f"] / row[name]["f"] for row in rows] for name in ("rule", "linear_warmup")}
    slopes = {name: fitted_slope(lengths, values) for name, values in ratios.items()}
    config = {"lengths": list(lengths), "first_steps_times_T": FIRST_STEPS.round(4).tolist(), "peaks": PEAKS.tolist()}
    middle = curves(rows[len(rows) * 2 // 3])
    return {"config": config, "floor": FLOOR, "slopes": slopes, "rows": rows, "curves": middle}


def describe(results: Record) -> str:
    """What is shown, in two sentences."""
    end = results["rows"][-1]
    return (
        f"For no T does a schedule that never increases get below {results['floor']:.3f} here; at T = {end['T']:,} "
        f"the best found is at {end['best']['f']:.3f} and the warmup rule at {end['rule']['f']:.1e}, and their ratio "
        f"grows like {power(results['slopes']['rule'])}. A linear warmup tuned for each T gains as much up to a "
        f"factor, {end['linear_warmup']['f'] / end['rule']['f']:.1f} at the end; the functions are made for this and "
        f"not convex, and the rule is told f and f*."
    )


def draw(results: Record) -> Figure:
    """Left: the loss after T updates. Right: along runs of one length."""
    figure = Figure(figsize=(9.2, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    lengths = [row["T"] for row in results["rows"]]
    curves = results["curves"]
    names = {"best": "best that never increases", "linear_warmup": "best linear warmup", "rule": "warmup rule"}
    for (name, label), style in zip(names.items(), ("best", "other", "rule"), strict=True):
        ends = [row[name]["f"] for row in results["rows"]]
        left.plot(lengths, ends, **STYLES[style], **DOTS, label=label)
        right.plot(curves["updates"], curves["losses"][name], **STYLES[style])
    left.plot(lengths, [row["bound"] for row in results["rows"]], **STYLES["floor"], label="their floor (theorem)")
    right.plot(curves["updates"], curves["losses"]["ruined"], **STYLES["guide"], label="constant step $2/T$")
    left.set(title="Loss after $T$ updates", xlabel="$T$ (updates)", ylabel="$f$")
    right.set(title=f"Loss along the run, $T$ = {curves['T']:,}", xlabel="update", ylabel="$f$")
    log_axes(left)
    log_axes(right)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    run(__file__, study, describe, draw)
