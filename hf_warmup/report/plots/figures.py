"""Figures of a study, from its results alone: every function takes results with verdicts and returns a new Figure.

Lines are means over seeds, bands go from the lowest to the highest seed. Where a run diverges the mean ends with a
cross and the other runs go on as thin lines. Only matplotlib's Figure is used, no state of pyplot. Deliberately
absent: numbers that are not in the results, and `files`.
"""

from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hf_warmup.records.files import Record
from hf_warmup.report.plots.over_seeds import Numbers, Spread, curve, evaluations, over_seeds, smooth
from hf_warmup.report.plots.style import STYLE, Style, arm_styles, legend, line, log_updates, lone, panels, plain_log
from hf_warmup.statistics.metrics import metric_of
from hf_warmup.statistics.verdicts import DECIDED


Series = Callable[[Record], tuple[Numbers, Numbers]]

FIRST_UPDATES = 100
_BAND = "#DDE8F0"


def learning_curves(results: Record, task: Record) -> Figure:
    """Training loss, smoothed over a twentieth of the run (logarithmic), and the validation metric."""
    width, metric = task["num_training_steps"] / 20, metric_of(task)

    def loss(run: Record) -> tuple[Numbers, Numbers]:
        steps, values = curve(run, "loss")
        return steps, smooth(steps, values, width=width)

    def validation(run: Record) -> tuple[Numbers, Numbers]:
        steps, values = evaluations(run)
        return steps, metric.factor * values

    with matplotlib.rc_context(STYLE):
        figure, (left, right) = panels("Training loss", f"Validation {metric.label}")
        _draw(left, results, task, loss)
        _draw(right, results, task, validation)
        for axes in (left, right):
            axes.set_xlabel("Update")
            axes.set_xlim(0, task["num_training_steps"])
        plain_log(left)
        legend(figure, results, task, diverged=_diverged(task))
    return figure


def learning_rate_curves(results: Record, task: Record) -> Figure:
    """What the schedule made of each arm's own learning rate: over the whole run, and by orders of magnitude."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = panels("Share of the learning rate, whole run", "The same, first updates stretched")
        for axes in (left, right):
            for arm in task["arms"]:
                steps, rates = curve(arm["runs"][0], "lr")
                axes.plot(steps, rates / arm["learning_rate"], **line(results, arm))
            axes.set_xlabel("Update")
            axes.set_ylim(0, 1.04)
        left.set_xlim(0, task["num_training_steps"])
        log_updates(right, task["num_training_steps"])
        chosen = [arm["learning_rate"] for arm in task["arms"]]
        suffixes = [f" ({rate:g})" for rate in chosen] if len(set(chosen)) > 1 else None
        legend(figure, results, task, suffixes=suffixes, diverged=False)
    return figure


def update_magnitudes(results: Record, task: Record) -> Figure:
    """Size of the first updates: relative to the learning rate (why Adam needs warmup), and as weights saw it."""

    def first(column: str) -> Series:
        def series(run: Record) -> tuple[Numbers, Numbers]:
            steps, values = curve(run, column)
            return steps[steps <= FIRST_UPDATES], np.where(values > 0, values, np.nan)[steps <= FIRST_UPDATES]

        return series

    with matplotlib.rc_context(STYLE):
        figure, (left, right) = panels("Mean |update| / learning rate", "Mean |update|")
        _draw(left, results, task, first("update_ratio_mean"))
        _draw(right, results, task, first("update_mean"))
        for axes in (left, right):
            log_updates(axes, FIRST_UPDATES)
            axes.set_yscale("log")
        plain_log(left)
        legend(figure, results, task, diverged=_diverged(task))
    return figure


def differences(results: Record) -> Figure:
    """Forest plot: each arm's difference from the baseline with two intervals, over the band of the margin."""
    tasks = [task for task in results["tasks"] if task["verdicts"]]
    rows = [len(task["verdicts"]) for task in tasks]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 0.85 * len(tasks) + 0.42 * sum(rows) + 0.5), layout="constrained")
        grid = figure.subplots(max(1, len(tasks)), 1, squeeze=False, height_ratios=[n + 0.6 for n in rows] or None)
        for axes, task in zip(grid[:, 0], tasks, strict=False):
            _forest(axes, task, arm_styles(results), results["baseline"])
    return figure


def learning_rate_sensitivity(results: Record, task: Record) -> Figure:
    """Validation score at each learning rate of the grid: mean and range, the chosen rate filled.

    A cross at the edge of the worse scores marks a rate at which a run diverged; its score may lie beyond it.
    """
    styles = arm_styles(results)
    count = len(task["arms"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        for i, arm in enumerate(task["arms"]):
            # Arms stand side by side at each rate, so that their ranges can be told apart.
            _sensitivity(axes, task, arm, styles[arm["name"]], shift=1.035 ** (i - (count - 1) / 2))
        axes.set_ylim(*_sensitivity_limits(task))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(task["learning_rates"]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("Learning rate")
        axes.set_title(f"Validation {metric_of(task).label}")
        diverged = any(lost for arm in task["arms"] for cell in arm["grid"] for lost in cell["diverged"])
        legend(figure, results, task, diverged=diverged)
    return figure


def _diverged(task: Record) -> bool:
    return any(run["diverged"] for arm in task["arms"] for run in arm["runs"])


def _draw(axes: Axes, results: Record, task: Record, series: Series) -> None:
    for arm in task["arms"]:
        style = line(results, arm)
        spread: Spread = over_seeds([series(run) for run in arm["runs"]])
        if len(arm["runs"]) > 1:
            axes.fill_between(spread.steps, spread.low, spread.high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(spread.steps, spread.mean, **style, **lone(spread.steps))
        for steps, values in spread.survivors:
            axes.plot(steps, values, **{**style, "linestyle": "-"}, linewidth=0.7, alpha=0.8)
        if spread.survivors or any(run["diverged"] for run in arm["runs"]):
            axes.plot(spread.steps[-1:], spread.mean[-1:], "x", color=style["color"], markersize=8, markeredgewidth=2)


def _forest(axes: Axes, task: Record, styles: dict[str, Style], baseline: str) -> None:
    metric = metric_of(task)
    factor, margin = metric.factor, metric.factor * task["margin"]
    left, right = _forest_limits(task["verdicts"], margin, factor)
    axes.axvspan(-margin, margin, color=_BAND, zorder=0)
    axes.axvline(0, color="#555555", linewidth=0.9, zorder=1)
    for row, verdict in enumerate(task["verdicts"]):
        style = styles[verdict["arm"]]
        color, decided = style["color"], verdict["verdict"] in DECIDED
        for key, linewidth in (("t_interval", 1.0), ("equivalence_interval", 3.6)):
            low, high = (factor * end for end in verdict[key] or (np.nan, np.nan))
            axes.plot([max(low, left), min(high, right)], [row, row], color=color, linewidth=linewidth)
            for cut, edge, marker in ((low < left, left, "<"), (high > right, right, ">")):
                if cut:
                    axes.plot(edge, row, marker, color=color, markersize=5, clip_on=False)
        face = color if decided else "white"
        axes.plot(
            factor * verdict["difference"], row, style["marker"],
            color=color, markerfacecolor=face, markersize=8, markeredgewidth=1.6,
        )  # fmt: skip
        beside = axes.get_yaxis_transform()
        size = metric.number(verdict["difference"], sign=True)
        axes.text(1.09, row, size, transform=beside, va="center", ha="right")
        weight = "bold" if decided else "normal"
        axes.text(1.11, row, metric.word(verdict), transform=beside, va="center", weight=weight)
    names = [verdict["arm"] for verdict in task["verdicts"]]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left, right)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    above = f"{metric.words}{',' * bool(metric.suffix)}{metric.suffix} above {baseline}"
    lower = ", lower is better" * metric.lower_is_better
    axes.set_title(f"{task['name']}: {above}{lower} (band: margin ±{margin:g})")


def _forest_limits(verdicts: list[Record], margin: float, factor: float) -> tuple[float, float]:
    """Ends of the axis: all points, and the intervals unless they are far out."""
    near = [-2 * margin, 2 * margin] + [factor * verdict["difference"] for verdict in verdicts]
    far = near + [factor * end for verdict in verdicts for end in verdict["t_interval"] or ()]
    room = max(near) - min(near)
    low, high = max(min(far), min(near) - room / 2), min(max(far), max(near) + room / 2)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _sensitivity(axes: Axes, task: Record, arm: Record, style: Style, *, shift: float) -> None:
    metric, color = metric_of(task), style["color"]
    rates, means = [], []
    for cell in sorted(arm["grid"], key=lambda cell: float(cell["learning_rate"])):
        scores = [metric.factor * score for score in cell["validation"] if score is not None]
        rate = cell["learning_rate"] * shift
        if any(cell["diverged"]):
            edge = axes.get_xaxis_transform()
            axes.plot(
                rate,
                0.97 if metric.lower_is_better else 0.03,
                "x",
                color=color,
                markersize=8,
                markeredgewidth=2,
                zorder=4,
                transform=edge,
            )
        if scores:
            rates.append(rate)
            means.append(sum(scores) / len(scores))
            axes.plot([rate, rate], [min(scores), max(scores)], color=color, linewidth=1)
            face = color if cell["learning_rate"] == arm["learning_rate"] else "white"
            axes.plot(rate, means[-1], style["marker"], color=color, markerfacecolor=face, zorder=3)
    axes.plot(rates, means, color=color, linestyle=style["linestyle"], linewidth=1.3, zorder=2)


def _sensitivity_limits(task: Record) -> tuple[float, float]:
    """From the lowest to the highest score of runs that did not diverge, with room for crosses on the worse side."""
    cells, metric = [cell for arm in task["arms"] for cell in arm["grid"]], metric_of(task)
    factor = metric.factor
    scores = [
        factor * score
        for cell in cells
        for score, lost in zip(cell["validation"], cell["diverged"], strict=True)
        if score is not None and not lost
    ]
    low, high = min(scores, default=0.0), max(scores, default=factor)
    room = 0.08 * max(high - low, factor / 100)
    return (low - room, high + 1.5 * room) if metric.lower_is_better else (low - 1.5 * room, high + room)
