"""What the four programs share: gradient descent, schedules that never increase, slopes, axes, and the two files.

Deliberately absent: the functions that are minimized and the proofs, which each program has of its own.
"""

import argparse
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hf_warmup.records.files import write_json
from hf_warmup.report.plots import STYLE, save_figure


Array = np.ndarray[Any, np.dtype[Any]]
Record = dict[str, Any]
Point = tuple[Array, Array]
Slopes = Callable[[Array, Array], Point]
# The step size of an update from its number and the point.
Step = Callable[[int, Array, Array], Array]

DOTS = {"marker": "o", "markersize": 4}
STYLES: dict[str, Record] = {
    "best": {"color": "#000000", "linestyle": "-"},
    "rule": {"color": "#D55E00", "linestyle": "-"},
    "floor": {"color": "#777777", "linestyle": (0, (1.2, 1.2))},
    "other": {"color": "#0072B2", "linestyle": (0, (6, 1.6))},
    "guide": {"color": "#CC79A7", "linestyle": (0, (3, 1.6))},
}


def nonincreasing(length: int) -> dict[str, Array]:
    """Schedules of `length` updates that start at 1 and never increase, by name; to be multiplied by a first step."""
    done = np.arange(length)
    progress = done / length
    shapes: dict[str, Array] = {
        "constant": np.ones(length),
        "linear to 0": 1 - progress,
        "cosine to 0": (1 + np.cos(np.pi * progress)) / 2,
    }
    for power in (0.1, 0.25, 0.5, 1.0):
        shapes[f"1 / (t + 1)^{power:g}"] = (done + 1.0) ** -power
    for share in (0.9, 0.5, 0.1):
        shapes[f"drop to {share:g} after one update"] = np.where(done < 1, 1.0, share)
        shapes[f"drop to {share:g} after a tenth"] = np.where(progress < 0.1, 1.0, share)
        shapes[f"drop to {share:g} halfway"] = np.where(progress < 0.5, 1.0, share)
    return shapes


def scheduled(shapes: Array, first_steps: Array) -> Step:
    """All `shapes` (S, T) times all `first_steps` (P, ...): (S, P, ...) step sizes at every update."""
    return lambda t, x, y: np.multiply.outer(shapes[:, t], first_steps)


def states(length: int, start: Point, step: Step, slopes: Slopes) -> Iterator[Point]:
    """(x, y) before each of T updates of gradient descent and after the last, in one run or in many at once."""
    x, y = start
    for t in range(length):
        yield x, y
        size, (along_x, along_y) = step(t, x, y), slopes(x, y)
        x, y = x - size * along_x, y - size * along_y
    yield x, y


def last(points: Iterable[Point]) -> Point:
    """The last one, without keeping the others."""
    return deque(points, maxlen=1)[0]


def fitted_slope(x: Sequence[float], y: Sequence[float]) -> Record:
    """Slope of log y against log x by least squares, with the 95% interval of Student's t for n points.

    The interval shows how far the points are from a straight line; where they carry no noise it says no more.
    """
    fit = scipy.stats.linregress(np.log(x), np.log(y))
    half = scipy.stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    return {"slope": float(fit.slope), "interval_95": [float(fit.slope - half), float(fit.slope + half)], "n": len(x)}


def power(slope: Record) -> str:
    """A slope of `fitted_slope` as text."""
    low, high = slope["interval_95"]
    return f"T^{slope['slope']:.2f} (95% interval {low:.2f} to {high:.2f})"


def log_axes(axes: Axes, which: str = "xy") -> None:
    """Logarithmic axes, those in `which`, with plain numbers at powers of ten."""
    for letter in which:
        getattr(axes, f"set_{letter}scale")("log")
        axis = getattr(axes, f"{letter}axis")
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def run(
    program: str,
    study: Callable[[], Record],
    describe: Callable[[Record], str],
    draw: Callable[[Record], Figure],
    arguments: Sequence[str] | None = None,
) -> None:
    """Do a study, write results.json and plot.png, and print the sentence.

    Args:
        program: the program's file; its results go beside it into the folder of its name, unless `--out` says where.
        study: gives the results.
        describe: says in a sentence what they show.
        draw: gives their picture.
        arguments: of the command line, by default those that the program was started with.
    """
    parser = argparse.ArgumentParser(description=f"Write results.json and plot.png of {Path(program).stem}.")
    parser.add_argument("--out", type=Path, default=Path(program).with_suffix(""), help="folder of the two files")
    out: Path = parser.parse_args(arguments).out
    results = study()
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    sentence = describe(results)
    write_json(out / "results.json", {"sentence": sentence, **results, "device": "cpu, float64", "versions": versions})
    with matplotlib.rc_context(STYLE):
        save_figure(draw(results), out / "plot.png")
    print(sentence)
