"""How all pictures of a study look: one color, line style and marker an arm, axes without ornament, one legend below.

Colors are Okabe and Ito's, safe for color-blind readers; the baseline is a black solid line and the other arms are
dashed, so that arms that agree with it stay visible on top. Deliberately absent: what is drawn.
"""

import math
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from hf_warmup.records.files import Record


Style = dict[str, Any]

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = (
    (0, (1.2, 1.2)),
    (0, (6, 1.6)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (3, 1.6)),
    (0, (9, 2)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
)
_MARKERS = ("s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    # Black on white whatever a person's own settings are: a page may be dark, and a picture must be readable on it.
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "text.color": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.dash_capstyle": "butt",
    "legend.frameon": False,
    "legend.handlelength": 3.4,
    "legend.fontsize": 9.5,
    "svg.hashsalt": "hf_warmup",
}


def arm_styles(results: Record) -> dict[str, Style]:
    """Color, line style and marker of each arm, the same for all pictures of a study."""
    names = dict.fromkeys(arm["name"] for task in results["tasks"] for arm in task["arms"])
    styles: dict[str, Style] = {}
    for name in names:
        if name == results["baseline"]:
            styles[name] = {"color": "#000000", "linestyle": "-", "marker": "o", "zorder": 2.1}
            continue
        k = sum(style["marker"] != "o" for style in styles.values())
        # With more arms than colors the dashes shift, so that no two arms share both.
        dash = _DASHES[(k + k // len(_COLORS)) % len(_DASHES)]
        styles[name] = {
            "color": _COLORS[k % len(_COLORS)],
            "linestyle": dash,
            "marker": _MARKERS[k % len(_MARKERS)],
            "zorder": 2.2 + 0.01 * k,
        }
    return styles


def panels(left: str, right: str) -> tuple[Figure, tuple[Axes, Axes]]:
    """A figure of two axes side by side, with their titles."""
    figure = Figure(figsize=(9.2, 4.1), layout="constrained")
    axes = figure.subplots(1, 2)
    for one, title in zip(axes, (left, right), strict=True):
        one.set_title(title)
    return figure, (axes[0], axes[1])


def line(results: Record, arm: Record) -> Style:
    """Keywords of `Axes.plot` for an arm's line."""
    style = arm_styles(results)[arm["name"]]
    return {key: style[key] for key in ("color", "linestyle", "zorder")}


def lone(places: Sized) -> Style:
    """Keywords of `Axes.plot` by which a line of one point is seen."""
    return {"marker": "o", "markersize": 5, "clip_on": False} if len(places) == 1 else {}


def log_updates(axes: Axes, last: float) -> None:
    """A logarithmic x axis over updates 1 to `last`, with plain numbers."""
    axes.set_xscale("log")
    axes.set_xlim(0.95, last)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("Update (logarithmic)")


def plain_log(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5 times powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def legend(
    figure: Figure, results: Record, task: Record, *, suffixes: Sequence[str] | None = None, diverged: bool
) -> None:
    """Name the arms below the axes; `suffixes` are added to their names, `diverged` explains the crosses."""
    arms = task["arms"]
    handles = [
        Line2D([], [], **line(results, arm), label=arm["name"] + suffix)
        for arm, suffix in zip(arms, suffixes or [""] * len(arms), strict=True)
    ]
    if diverged:
        handles.append(Line2D([], [], color="#555555", marker="x", linestyle="none", label="a run diverged"))
    lengths = [len(str(handle.get_label())) for handle in handles]
    figure.legend(handles=handles, loc="outside lower center", ncols=_columns(lengths, figure.get_figwidth()))


def _columns(lengths: list[int], width: float) -> int:
    """Columns of a legend in the fewest rows that fit into `width` inches; it is filled column by column."""
    for rows in range(1, len(lengths)):
        columns = math.ceil(len(lengths) / rows)
        widest = [column.max() for column in np.array_split(lengths, columns)]
        if sum(0.082 * letters + 0.75 for letters in widest) <= width:
            return columns
    return 1
