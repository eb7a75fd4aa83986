"""On f(x) = x^4 no schedule that never increases beats a power law, and warmup converges linearly.

    python recipes/theory/quartic.py [--out FOLDER]

f* = 0 and f'' = 12 f^(1/2): Liu, Ge, Pan, Kang & Zhang's ||Hess f|| <= K0 + Krho (f - f*)^rho (arXiv 2509.07972) with
rho = 1/2, K0 = 0, Krho = 12. Their own constructions could not be read; this example and its proof are ours.

The rule eta = c / (12 f^(1/2)) = c / (12 x^2) makes x - 4 eta x^3 = x (1 - c/3): f falls by (1 - c/3)^4 an update.

Theorem. For every eta_0 >= eta_1 >= ... >= 0 and every T some start x_0 in [1, 2] has f(x_T) >= 1 / (1 + 3T)^2.
A start that is known can be lucky, as 4 eta_0 x_0^2 = 1 lands on the minimum; hence a range of starts.

Proof, by induction over T, for every s >= 1 in place of 1: some x_0 in [s, 2s] has |x_T|^2 >= 1 / (1 + 3T). T = 0 is
clear. As f is even, follow |x|, which goes to F(|x|), F(r) = r |1 - 4 eta_0 r^2|.
  1. eta_0 < 1 / (8 s^2). Start at s and let u_t = 4 eta_t x_t^2. u_0 < 1/2, and as long as u_t < 1/2, x_t keeps its
     sign and shrinks, so that u_(t+1) <= u_t < 1/2. On [0, 1/2], 1 / (1 - u)^2 is convex, 1 and 4 at the ends, hence
     <= 1 + 6u, and 1/x_(t+1)^2 = 1/x_t^2 / (1 - u_t)^2 <= 1/x_t^2 + 24 eta_t <= 1/x_t^2 + 3/s^2. After T updates
     1/x_T^2 <= (1 + 3T) / s^2 <= 1 + 3T.
  2. eta_0 >= 1 / (8 s^2) and F(s) <= s. F(2s) = 2s (16 eta_0 s^2 - 1) >= 2s, and F is continuous: F([s, 2s]) contains
     [s, 2s]. Some point of that is as claimed for the T - 1 updates left, and 1 / (1 + 3(T - 1)) is larger.
  3. eta_0 >= 1 / (8 s^2) and s' = F(s) > s. Then e = 4 eta_0 s^2 > 2, s' = s (e - 1) and F(2s) = 2s (4e - 1) > 8 s':
     F([s, 2s]) contains [s', 2s'] with s' > s >= 1, and the T - 1 updates left are as in 2.
The exponent is the best possible: a constant step just below 1/8 has f(x_T) near 1 / T^2.

Deliberately absent: noise, and more than one dimension.
"""

from collections.abc import Sequence

import numpy as np
from common import DOTS, STYLES, Array, Record, fitted_slope, log_axes, nonincreasing, power, run
from matplotlib.figure import Figure


LENGTHS = (10, 30, 100, 300, 1000, 3000, 10_000)
STARTS = np.linspace(1, 2, 101)
# The largest step that keeps all of [1, 2] is 1/8, so the grid is fine there.
FIRST_STEPS = np.concatenate([np.geomspace(0.01, 0.12, 20), np.linspace(0.1205, 0.13, 39), np.geomspace(0.14, 1, 15)])
GOAL = 1e-12


def descend(steps: Array, starts: Array) -> Array:
    """f after gradient descent; `steps` (T, ...) and `starts` (S,) give (..., S)."""
    x = np.broadcast_to(starts, (*steps.shape[1:], len(starts))).copy()
    for step in steps:
        x *= 1 - 4 * step[..., None] * x * x
        # What has left for good would overflow.
        np.clip(x, -1e9, 1e9, out=x)
    return x**4


def lower_bound(length: int) -> float:
    """What no schedule that never increases gets below from the worst start in [1, 2]."""
    return 1 / (1 + 3 * length) ** 2


def follow_rule(start: float, length: int, c: float = 1.0) -> tuple[list[float], list[float]]:
    """x_0, ..., x_T and the T steps of eta = c / (12 f^(1/2))."""
    x, steps = [start], []
    for _ in range(length):
        steps.append(c / (12 * (x[-1] ** 4) ** 0.5))
        x.append(x[-1] - steps[-1] * 4 * x[-1] ** 3)
    return x, steps


def study(lengths: Sequence[int] = LENGTHS) -> Record:
    """The best of each family of schedules at each length, the bound, and the rule."""
    rows: list[Record] = []
    for length in lengths:
        shapes = nonincreasing(length)
        worst = np.stack([descend(shape[:, None] * FIRST_STEPS, STARTS).max(axis=-1) for shape in shapes.values()])
        family, first = np.unravel_index(worst.argmin(), worst.shape)
        best = {"f": worst.min(), "schedule": list(shapes)[family], "first_step": FIRST_STEPS[first]}
        families = dict(zip(shapes, worst.min(axis=1).tolist(), strict=True))
        rows.append({"T": length, "bound": lower_bound(length), "best": best, "families": families})
    slope = fitted_slope(lengths, [row["best"]["f"] for row in rows])
    x, steps = follow_rule(STARTS[-1], 30)
    losses = [value**4 for value in x]
    reached = next(t for t, loss in enumerate(losses) if loss <= GOAL)
    # 1 / (1 + 3T)^2 <= GOAL only from this T on.
    needed = int(np.ceil((GOAL**-0.5 - 1) / 3))
    config: Record = {"lengths": list(lengths), "c": 1.0, "first_steps": FIRST_STEPS.round(5).tolist()}
    config["starts"] = {"from": STARTS[0], "to": STARTS[-1], "count": len(STARTS)}
    rule = {"losses": losses, "steps": steps, "updates_to_goal": reached, "start": float(STARTS[-1])}
    goal = {"f": GOAL, "updates_of_nonincreasing_at_least": needed}
    return {"config": config, "slope": slope, "rows": rows, "rule": rule, "goal": goal}


def describe(results: Record) -> str:
    """What is shown, in two sentences."""
    row, rule, goal = results["rows"][-1], results["rule"], results["goal"]
    return (
        f"On x^4, from the worst of {results['config']['starts']['count']} starts in [1, 2], the best of "
        f"{len(row['families'])} families of schedules that never increase falls like {power(results['slope'])}, to "
        f"{row['best']['f']:.1e} at T = {row['T']:,}, and from the worst start none at all gets below 1 / (1 + 3T)^2, "
        f"{row['bound']:.1e} there; the warmup rule, which is told f, reaches {goal['f']:g} in "
        f"{rule['updates_to_goal']} updates where they need at least {goal['updates_of_nonincreasing_at_least']:,}. "
        f"It is one function of one variable without noise, and says nothing about networks."
    )


def draw(results: Record) -> Figure:
    """Left: the worst loss after T updates. Right: the step sizes that lead there."""
    figure = Figure(figsize=(9.2, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    rows, rule = results["rows"], results["rule"]
    lengths, best = [row["T"] for row in rows], [row["best"] for row in rows]
    for name in rows[0]["families"]:
        label = "best of each family" if name == "constant" else None
        left.plot(lengths, [row["families"][name] for row in rows], color="#BBBBBB", linewidth=0.9, label=label)
    ends, floors = [one["f"] for one in best], [lower_bound(length) for length in (1, *lengths)]
    left.plot(lengths, ends, **STYLES["best"], **DOTS, label="best that never increases")
    left.plot([1, *lengths], floors, **STYLES["floor"], label="their floor (theorem)")
    left.plot(range(1, len(rule["losses"])), rule["losses"][1:], **STYLES["rule"], label="warmup rule, start at 2")
    left.set(title="Loss after $T$ updates, worst start in [1, 2]", xlabel="$T$ (updates)", ylabel="$f(x_T)$")
    left.set(xlim=(1, 1.3 * lengths[-1]), ylim=(1e-13, 30))
    updates = rule["updates_to_goal"]
    right.plot(range(updates), rule["steps"][:updates], **STYLES["rule"])
    right.plot([0, updates - 1], 2 * [best[-1]["first_step"]], **STYLES["best"])
    right.set(title="Step size", xlabel="update", ylabel="step size")
    log_axes(left)
    log_axes(right, "y")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    run(__file__, study, describe, draw)
