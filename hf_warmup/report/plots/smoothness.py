"""Figure of a run's curvature: against the loss gap with its fit, and the warmup that follows from it.

Deliberately absent: numbers that are not in the document of `hf-warmup smoothness`.
"""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from hf_warmup.records.files import Record
from hf_warmup.report.plots.style import STYLE, panels


_FIT, _IMPLIED, _UNTUNED = "#000000", "#D55E00", "#0072B2"


def smoothness_figure(document: Record) -> Figure:
    """Left: curvature against loss gap, colored by update. Right: the implied warmup beside the untuned one."""
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = panels("Curvature against loss gap", "Implied warmup (share of the final step)")
        draw_measurements(figure, left, document)
        advice = document["advice"]
        if advice is None:
            right.text(0.5, 0.5, "no warmup follows", ha="center", va="center", transform=right.transAxes)
            right.set_axis_off()
            return figure
        steps = np.array(advice["steps"])
        right.step(steps, advice["multipliers"], where="post", color=_IMPLIED, label="implied by the fit")
        for words, period, color, line in (
            ("linear of equal cost", advice["linear_period"], _IMPLIED, ":"),
            ("untuned linear", advice["untuned_period"], _UNTUNED, "--"),
        ):
            label = f"{words}, {period:.0f} updates"
            right.plot(steps, np.minimum(1, steps / period), color=color, linestyle=line, label=label)
        right.set_ylim(0, 1.05)
        right.set_xlim(0, steps[-1])
        right.set_xlabel("Update")
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def draw_measurements(figure: Figure, axes: Axes, document: Record) -> None:
    """Measurements, and their fit where they support one."""
    measured = document["measurements"]
    gaps, values = np.array(measured["gap"], dtype=float), np.array(measured["smoothness"], dtype=float)
    shown = (gaps > 0) & (values > 0)
    points = axes.scatter(
        gaps[shown], values[shown], c=np.array(measured["step"])[shown], s=14, cmap="viridis", linewidths=0
    )
    figure.colorbar(points, ax=axes, label="Update", pad=0.02)
    fit = document["fit"]
    if fit["verdict"] == "supported":
        curve = np.geomspace(gaps[shown].min(), gaps[shown].max(), 200)
        words = f"{fit['k0']:.3g} + {fit['krho']:.3g} gap^{fit['rho']:.2f}"
        axes.plot(curve, fit["k0"] + fit["krho"] * curve ** fit["rho"], color=_FIT, label=words)
    else:
        axes.plot([], [], linestyle="none", label=f"no fit: {fit['verdict'].partition(':')[0]}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, seen in ((axes.xaxis, gaps[shown]), (axes.yaxis, values[shown])):
        reach = seen.max() / seen.min()
        between = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if reach < 10 else (1.0, 2.0, 5.0) if reach < 500 else (1.0,)
        axis.set_major_locator(LogLocator(subs=between))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("Loss gap")
    axes.set_ylabel("|g(w+) - g(w)| / |w+ - w|")
