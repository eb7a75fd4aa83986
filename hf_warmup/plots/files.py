"""A study's pictures as files: which there are, what stands below them, and PNG and SVG of each.

The same results give the same files, byte for byte with the same matplotlib, and a file is replaced whole or not at
all. Deliberately absent: the drawing (`figures`).
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from hf_warmup.plots import figures
from hf_warmup.plots.style import STYLE


Record = dict[str, Any]

_DIFFERENCES = (
    "Mean difference of the test scores, paired by seed. Thick line: 95 % bootstrap interval; thin line: 90 % t "
    "interval, which lies within the band where the test of equivalence decides alone. Open symbols: not decided."
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
        "Filled: the chosen rate. A cross at the lower edge: a run diverged; its score may lie below the picture.",
    ),
}


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
            if kind == "sensitivity" and len(task["learning_rates"]) < 2:
                continue
            yield Picture(
                f"{stem}_{kind}", task["name"], title, caption.format(spread=spread), function(results, task)
            )


def save_plots(results: Record, folder: Path) -> list[Picture]:
    """Draw all pictures into `folder`, each as NAME.png (160 dpi) and NAME.svg.

    Args:
        results: with verdicts (`add_verdicts`).
        folder: made if it does not exist; a file in it is replaced whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = list(pictures(results))
    for picture in found:
        _save(picture.figure, folder / f"{picture.name}.png", {"Software": None}, dpi=160)
        _save(picture.figure, folder / f"{picture.name}.svg", {"Date": None, "Creator": None}, dpi=72)
    return found


def _save(figure: Figure, path: Path, metadata: dict[str, Any], *, dpi: int) -> None:
    content = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            content, format=path.suffix[1:], dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.06
        )
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content.getvalue())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
