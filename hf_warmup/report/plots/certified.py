"""Figures of certified training, from a study's results, and of a certified model, from its certificate.

Lines are means over seeds, bands go from the lowest to the highest seed. Deliberately absent: numbers that are not in
the results.
"""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_warmup.records.files import Record
from hf_warmup.report.plots.over_seeds import Numbers, over_seeds
from hf_warmup.report.plots.style import STYLE, legend, line, lone, panels, plain_log


_RAMP = "#EFEFEF"
STATES = ("active", "inactive", "unstable")


def error_curves(results: Record) -> Figure:
    """Verified and clean error by epoch; gray: the epochs in which the radius grows."""
    with matplotlib.rc_context(STYLE):
        figure, both = panels(f"Verified error at eps {results['config']['eps']} (%)", "Clean error (%)")
        for axes, key in zip(both, ("verified_accuracy", "clean_accuracy"), strict=True):
            _over_epochs(axes, results, partial(_error, key=key))
        plain_log(both[0])
        both[1].set_ylim(bottom=0)
        _legend(figure, results)
    return figure


def relu_states(results: Record) -> Figure:
    """Shares of ReLU units whose bounds are above 0, below 0, or contain it, as means over the layers."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.7), layout="constrained")
        for axes, state in zip(figure.subplots(1, 3, sharey=True), STATES, strict=True):
            _over_epochs(axes, results, partial(_mean_over_layers, key=state))
            axes.set_title(f"{state.capitalize()} ReLUs (%)")
            axes.set_ylim(0, 100)
        _legend(figure, results)
    return figure


def layer_health(results: Record) -> Figure:
    """Bounds from ReLU to ReLU: their width, its growth and the unstable share, at the first and the last look."""
    columns = (
        ("relative_width", "Width / spread of clean values"),
        ("gain", "Growth of the width"),
        ("unstable", "Unstable share"),
    )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.7), layout="constrained")
        for axes, (key, title) in zip(figure.subplots(1, 3), columns, strict=True):
            for arm in results["arms"]:
                for place, look in ((0, {"alpha": 0.35, "linewidth": 1.0}), (-1, {})):
                    values = _by_layer(arm, key, place)
                    axes.plot(
                        range(1, len(values) + 1), values, marker="o", markersize=4, **_line(results, arm), **look
                    )
            axes.set_title(title)
            axes.set_xlabel("ReLU, from input to output")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if key == "unstable":
                axes.set_ylim(0, 1)
            else:
                plain_log(axes)
        _legend(figure, results)
    return figure


def radius_curve(
    radii: Sequence[float],
    eps: float,
    *,
    name: str,
    attacked: float | None,
    clean: float,
    proven: float | None = None,
) -> Figure:
    """Share of images whose answer is proven within each radius.

    Args:
        radii: per image the certified radius, 0 where nothing is proven.
        eps: the radius that the certificate is about.
        name: of the model.
        attacked: accuracy under PGD at `eps`, the most that could be proven there.
        clean: accuracy without perturbation.
        proven: what is proven at `eps` where radii are those of intervals alone.
    """
    places, shares = proven_shares(radii)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        label = "certified" if proven is None else "certified by intervals"
        axes.step(places, shares, where="pre", color="#0072B2", label=label)
        axes.plot(0, 100 * clean, "o", color="#000000", clip_on=False, label="clean")
        if attacked is not None:
            axes.plot(eps, 100 * attacked, "v", color="#D55E00", label="PGD finds no misclassified point")
        if proven is not None:
            axes.plot(eps, 100 * proven, "D", color="#0072B2", label="certified by linear bounds as well")
        axes.axvline(eps, color="#555555", linewidth=0.9, zorder=0)
        # Left of its line: right of it, or soon, the curve falls to 0.
        axes.text(eps, 2, f"eps {eps:.4g} ", color="#555555", horizontalalignment="right")
        axes.set_xlim(0, max(float(places[-1]), eps) * 1.02)
        axes.set_ylim(0, 100)
        axes.set_xlabel("Radius, L-infinity, in units of pixels in [0, 1]")
        axes.set_title(f"Certified accuracy of {name} (%)")
        axes.legend(loc="best")
    return figure


def proven_shares(radii: Sequence[float]) -> tuple[Numbers, Numbers]:
    """Radii from 0 on at which the share of proven images changes, and that share up to each, in percent.

    Args:
        radii: per image the certified radius, 0 where nothing is proven. The search for them ends somewhere, so the
            shares do too, and not at 0.
    """
    ordered = np.sort(np.asarray(radii, dtype=np.float64))
    places, below = np.unique(ordered[ordered > 0], return_index=True)
    shares = 100 * (np.count_nonzero(ordered) - below) / len(ordered)
    return np.append(0.0, places), np.append(shares[:1] if len(shares) else 0.0, shares)


def _error(record: Record, *, key: str) -> float:
    return 100.0 * (1.0 - float(record[key]))


def _mean_over_layers(record: Record, *, key: str) -> float:
    return 100.0 * fmean(layer[key] for layer in record["health"])


def _over_epochs(axes: Axes, results: Record, value: Callable[[Record], float]) -> None:
    training, length = results["config"]["training"], results["updates_per_epoch"]
    start = training["ramp_start"]
    axes.axvspan(start, start + training["ramp_epochs"], color=_RAMP, zorder=0)
    for arm in results["arms"]:
        spread = over_seeds([_series(run, length, value) for run in arm["runs"]])
        style = _line(results, arm)
        axes.fill_between(spread.steps, spread.low, spread.high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(spread.steps, spread.mean, **style, **lone(spread.steps))
    axes.set_xlim(0, training["epochs"])
    axes.set_xlabel("Epoch")


def _series(run: Record, length: int, value: Callable[[Record], float]) -> tuple[Numbers, Numbers]:
    found = run["evaluations"]
    return np.array([e["step"] / length for e in found]), np.array([value(e) for e in found], dtype=float)


def _by_layer(arm: Record, key: str, place: int) -> Numbers:
    """Mean over seeds at the first (0) or last (-1) evaluation; what was not finite counts as missing."""
    runs = [[layer[key] for layer in run["evaluations"][place]["health"]] for run in arm["runs"]]
    means: Numbers = np.nanmean(np.array(runs, dtype=float), axis=0)
    return means


def _as_task(results: Record) -> Record:
    # The styles are made for studies of several tasks with a baseline: here one, compared with its first arm.
    return {"tasks": [results], "baseline": results["arms"][0]["name"]}


def _line(results: Record, arm: Record) -> dict[str, Any]:
    return line(_as_task(results), arm)


def _legend(figure: Figure, results: Record) -> None:
    legend(figure, _as_task(results), results, diverged=False)
