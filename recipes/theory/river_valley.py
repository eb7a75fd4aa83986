"""In a valley whose walls flatten along the river, whether warmup helps depends on where the river ends.

    python recipes/theory/river_valley.py [--out FOLDER]

The functions, f(x, y) = (1 + R r(y)) x^2 / 2 + r(y) with ||Hess f|| <= 1 + K1 f, stand in `rivers`. The rule
eta = 1 / (1 + K1 f) is run beside constant steps and schedules that never increase, which are tuned for each number of
updates; a rule with K1 tuned is run too, as the bound is wide. All are judged by the worst of many starts, because
from one start single steps can be lucky.

There is no theorem here. A step too large for the walls throws x across, further out than it was, but high up on the
wall f falls along y too, so y is driven down the river to flatter walls, which catch x again: a catapult. On an open
river nothing is lost by that. In a basin the river's end limits how far y may be thrown, and a step that is small
enough for the walls at the start stays small if it may not grow.

Deliberately absent: noise, and networks. The valley is a picture and not a model of their losses.
"""

from collections.abc import Sequence

import numpy as np
from common import STYLES, Array, Record, Step, last, log_axes, nonincreasing, run, scheduled, states
from matplotlib.figure import Figure
from rivers import BASIN, RIVERS, R, River


LENGTHS = (10, 30, 100, 300, 1000)
FIRST_STEPS = np.geomspace(0.1 / R, 5, 60)
SHARES = (1, 1 / 4, 1 / 16, 1 / 64)  # of K1
SHOWN_X, SHOWN_UPDATES = 0.4, 60


def worst_loss(river: River, length: int, step: Step) -> Array:
    """f after T updates from the worst start, inf where a run has diverged; starts are the last two axes."""
    with np.errstate(over="ignore", invalid="ignore"):
        losses = river.loss(*last(states(length, river.starts(), step, river.gradient)))
    return np.nan_to_num(losses, nan=np.inf).max(axis=(-2, -1))


def compare(river: River, length: int) -> Record:
    """The best constant step, the best schedule that never increases, the rule, and the best rule, after T updates."""
    shapes = nonincreasing(length)
    grid = worst_loss(river, length, scheduled(np.stack(list(shapes.values())), FIRST_STEPS[:, None, None]))
    i, j = np.unravel_index(grid.argmin(), grid.shape)
    constant = grid[list(shapes).index("constant")]
    rules = worst_loss(river, length, river.rule(np.array(SHARES)[:, None, None], river.starts()))
    return {
        "T": length,
        "constant": {"f": constant.min(), "step": FIRST_STEPS[constant.argmin()]},
        "best": {"f": grid[i, j], "schedule": list(shapes)[i], "first_step": FIRST_STEPS[j]},
        "rule": {"f": rules[0]},
        "tuned_rule": {"f": rules.min(), "share_of_K1": SHARES[rules.argmin()]},
    }


def follow(river: River, row: Record) -> Record:
    """f from the worst start along the runs of a length, and the way and the step sizes from one start."""
    one, many = (np.asarray(SHOWN_X), np.asarray(river.y[len(river.y) // 2])), river.starts()
    tuned = row["tuned_rule"]["share_of_K1"]
    runs: dict[str, list[Step]] = {
        "constant": 2 * [lambda t, x, y: np.asarray(row["constant"]["step"])],
        "rule": [river.rule(1, start) for start in (one, many)],
        "tuned_rule": [river.rule(tuned, start) for start in (one, many)],
    }
    found: Record = {}
    for name, (step_of_one, step_of_many) in runs.items():
        way = list(states(row["T"], one, step_of_one, river.gradient))
        worst = [river.loss(*point).max() for point in states(row["T"], many, step_of_many, river.gradient)]
        sizes = [step_of_one(0, *point) for point in way]
        series = {"x": [x for x, _ in way[:SHOWN_UPDATES]], "y": [y for _, y in way[:SHOWN_UPDATES]]}
        series |= {"worst_f": worst, "step": sizes}
        found[name] = {key: [float(f"{value:.5g}") for value in values] for key, values in series.items()}
    return found


def study(lengths: Sequence[int] = LENGTHS) -> Record:
    """Both rivers at all lengths, and runs of the last length but one."""
    rivers: Record = {}
    for name, river in RIVERS.items():
        rows = [compare(river, length) for length in lengths]
        rivers[name] = {"K1": river.k1, "rows": rows, "runs": follow(river, rows[-2])}
    config: Record = {"lengths": list(lengths), "R": R, "m_of_basin": BASIN, "shares_of_K1": SHARES}
    config |= {"first_steps": FIRST_STEPS.round(5).tolist(), "shown_x": SHOWN_X, "starts": river.starts()[0].size}
    return {"config": config, "rivers": rivers}


def describe(results: Record) -> str:
    """What is shown, in three sentences."""
    rivers = results["rivers"]
    (early, late), far = rivers["closed"]["rows"][-3:-1], rivers["open"]["rows"][-2]
    return (
        f"Where the river ends in a basin the untuned warmup rule is at {late['rule']['f']:.0e} after {late['T']} "
        f"updates and the best tuned schedule that never increases at {late['best']['f']:.0e}, but after {early['T']} "
        f"at {early['rule']['f']:.2f} and {early['best']['f']:.2f} (f from the worst of {results['config']['starts']} "
        f"starts). Where the walls flatten for ever, steps too large for them are caught further down, and after "
        f"{far['T']} updates a tuned constant step is at {far['constant']['f']:.0e}, the rule at "
        f"{far['rule']['f']:.0e} and, with K1 tuned, at {far['tuned_rule']['f']:.0e}: warmup does harm there. These "
        f"are two pictures without noise, not models of networks."
    )


def draw(results: Record) -> Figure:
    """For each river the first updates on contours of f, the loss from the worst start, and the step sizes."""
    figure = Figure(figsize=(10.2, 6.6), layout="constrained")
    labels = {"constant": "best constant step", "rule": "warmup rule", "tuned_rule": "warmup rule, $K_1$ tuned"}
    views = {"closed": (-1.5, 4.5), "open": (-1.5, 12)}
    rows = figure.subplots(2, 3, width_ratios=(1.2, 1.2, 1))
    for (valley, loss, step), (name, found) in zip(rows, results["rivers"].items(), strict=True):
        x, y = np.meshgrid(np.linspace(-3, 3, 200), np.linspace(*views[name], 200))
        levels = 10 ** np.arange(-5, 5, 0.5)
        valley.contour(x, y, RIVERS[name].loss(x, y), levels, colors="#BBBBBB", linewidths=0.6)
        for (kind, label), style in zip(labels.items(), ("best", "rule", "other"), strict=True):
            run = found["runs"][kind]
            valley.plot(run["x"], run["y"], **{**STYLES[style], "linewidth": 1.1}, marker=".", markersize=4)
            loss.plot(run["worst_f"], **STYLES[style], label=label if name == "open" else None)
            step.plot(run["step"], **STYLES[style])
        valley.set(xlim=(-3, 3), ylim=views[name], xlabel="$x$, across", ylabel="$y$, along the river")
        valley.set_title({"open": "River that falls for ever", "closed": "River that ends in a basin"}[name])
        valley.grid(False)
        loss.set(title="Loss from the worst start", xlabel="update", ylabel="$f$")
        step.set(title="Step size from the start on the left", xlabel="update", ylabel="step size")
        log_axes(loss, "y")
        log_axes(step, "y")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    run(__file__, study, describe, draw)
