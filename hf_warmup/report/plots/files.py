"""A study's pictures as files: which there are, what stands below them, and PNG and SVG of each.

The same results give the same files, byte for byte with the same matplotlib, and a file is replaced whole or not at
all. Deliberately absent: the drawing (`figures`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_bytes
from hf_warmup.report.plots import certified, figures
from hf_warmup.report.plots.style import STYLE


_DIFFERENCES = (
    "Mean difference of the test scores, paired by seed. Thin line: 95 % t interval, which leaves 0 out "
    "where the t test finds a difference; thick line: 90 % t interval, which lies within the band where the test of "
    "equivalence decides. Open symbols: not decided. Looks declared beforehand and several tasks ask for more."
)
_PICTURES: dict[str, tuple[Callable[[Record, Record], Figure], str, str]] = {
    "learning": (
        figures.learning_curves,
        "Learning curves",
        "Left: training loss, running mean over a twentieth of the run, logarithmic. Right: score on the validation "
        "part. Each arm at its chosen learning rate; {spread}.",
    ),
    "updates": (
        figures.update_magnitudes,
        "Size of the first updates",
        "Left: mean over all parameters of |update| / learning rate, weight decay taken out. It is 1 at Adam's first "
        "update, for every parameter at once: what warmup is there for. Right: mean |update|, the warmup's multiplier "
        "included. Updates of size 0 have no place on a logarithmic axis; {spread}.",
    ),
    "rates": (
        figures.learning_rate_curves,
        "Learning rate",
        "Learning rate that the schedule set, as a share of the arm's chosen rate (in brackets where arms differ). "
        "RAdam's own warmup acts inside the optimizer and shows in the size of the updates, not here.",
    ),
    "sensitivity": (
        figures.learning_rate_sensitivity,
        "Sensitivity to the learning rate",
        "Score on the validation part at each learning rate, mean and range over seeds; arms stand side by side. "
        "Filled: the chosen rate. A cross at the edge of the worse scores: a run diverged; its score may lie "
        "beyond the picture, or there is none.",
    ),
}


_CERTIFIED: dict[str, tuple[Callable[[Record], Figure], str, str]] = {
    "errors": (
        certified.error_curves,
        "Verified and clean error",
        "On the {split} split, {looks}; nothing was chosen by it. Left on a logarithmic axis. Gray: the epochs "
        "in which the training radius grows from 0; {spread}.",
    ),
    "relu_states": (
        certified.relu_states,
        "States of the ReLUs",
        "Shares of ReLU units whose bounds lie above 0 (active), below 0 (inactive) or contain 0 (unstable), at the "
        "radius of the epoch, means over layers; {spread}.",
    ),
    "layer_health": (
        certified.layer_health,
        "Bounds from layer to layer",
        "Pale: at the first look, at its epoch's radius; full: after the last epoch, at the full radius. Left: mean "
        "radius of the pre-activation bounds over the standard deviation of the clean values. Middle: growth of the "
        "mean radius from the ReLU before (from the network's input for the first). Means over seeds.",
    ),
}
_OF_RELUS = ("relu_states", "layer_health")
# No date and no version in the files: the same results give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class Picture:
    """One picture of a study as it is stored.

    Attributes:
        name: file name without suffix.
        task: the task that it shows; None for all of them.
        title, caption: plain text.
        figure: what to draw.
    """

    name: str
    task: str | None
    title: str
    caption: str
    figure: Figure


def pictures(results: Record) -> Iterator[Picture]:
    """All pictures of a study with verdicts: the differences first, then task by task."""
    if any(task["verdicts"] for task in results["tasks"]):
        title = f"Differences from {results['baseline']}"
        yield Picture("differences", None, title, _DIFFERENCES, figures.differences(results))
    for number, task in enumerate(results["tasks"], start=1):
        name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", task["name"]).strip("-.")
        # Names that had to be changed may have become equal, so they carry the task's number.
        stem = name if name == task["name"] else f"{number}-{name}"
        seeds = max(len(arm["runs"]) for arm in task["arms"])
        spread = "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: from the lowest to the highest seed"
        for kind, (function, title, caption) in _PICTURES.items():
            if not _has_data(kind, task):
                continue
            yield Picture(
                f"{stem}_{kind}", task["name"], title, caption.format(spread=spread), function(results, task)
            )


# What a picture cannot do without; a person's own run may tell of none.
_COLUMNS = {"learning": "loss", "updates": "update_mean", "rates": "lr"}


def _has_data(kind: str, task: Record) -> bool:
    if kind == "sensitivity":
        return len(task["learning_rates"]) > 1
    runs = [run for arm in task["arms"] for run in arm["runs"]]
    known = any(value is not None for run in runs for value in run["curve"][_COLUMNS[kind]])
    return known or (kind == "learning" and any(run["evaluations"] for run in runs))


def certified_pictures(results: Record) -> list[Picture]:
    """All pictures of a certified training study; none of ReLUs where the model has none."""
    seeds = max(len(arm["runs"]) for arm in results["arms"])
    spread = "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: from the lowest to the highest seed"
    split = "validation" if "validation" in results["config"]["data"] else "test"
    words = {"spread": spread, "split": split, "looks": looks(results, results["config"])}
    relus = any(record["health"] for arm in results["arms"] for run in arm["runs"] for record in run["evaluations"])
    return [
        Picture(name, None, title, caption.format(**words), function(results))
        for name, (function, title, caption) in _CERTIFIED.items()
        if relus or name not in _OF_RELUS
    ]


def looks(results: Record, recipe: Record) -> str:
    """When a certified training was looked at, in words.

    By its recipe, unless the results say it under "looks", as those of a run that another recipe began.
    """
    if "looks" in results:
        return str(results["looks"])
    every, epochs = recipe["training"]["evaluate_every"], recipe["training"]["epochs"]
    if every >= epochs:
        return "after the last epoch alone"
    if every == 1:
        return "after every epoch"
    return f"after every {every} epochs" + (" and after the last" if epochs % every else "")


def save_pictures(pictures: Iterable[Picture], folder: Path) -> list[Picture]:
    """Draw pictures into `folder`, each as NAME.png (160 dpi) and NAME.svg.

    Args:
        pictures: from `pictures` or `certified_pictures`.
        folder: made if it does not exist; a file in it is replaced whole or not at all.
    """
    found = list(pictures)
    for picture in found:
        save_figure(picture.figure, folder / f"{picture.name}.png")
        save_figure(picture.figure, folder / f"{picture.name}.svg")
    return found


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, as the path ends; the same figure always gives the same bytes."""
    if path.suffix not in _METADATA:
        raise ConfigError(f"{path}: a picture's name must end in {' or '.join(_METADATA)}.")
    content = BytesIO()
    metadata, dpi = _METADATA[path.suffix], 160 if path.suffix == ".png" else 72
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            content, format=path.suffix[1:], dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.06
        )
    write_bytes(path, content.getvalue())
