"""How short may the warmup be? `python recipes/certified/ramp_length.py`: verified accuracy against the ramp's length.

Takes the results of each recipe in `ramp_length`, `NAME_N` for a radius that grows over N epochs; draws
`ramp_length/ramp_length.png` and prints the numbers in Markdown.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_warmup.records.files import read_json
from hf_warmup.report.plots import STYLE, save_figure


HERE = Path(__file__).parent
ARMS = {
    "vanilla_ibp": {"color": "#000000", "linestyle": "-", "marker": "o"},
    "short_warmup": {"color": "#D55E00", "linestyle": (0, (6, 1.6)), "marker": "s"},
}


def collected(recipe: Path) -> dict[float, dict[str, Any]]:
    """A recipe's results by the length of the ramp in epochs, ascending."""
    found = [read_json(path) for path in recipe.parent.glob(f"{recipe.stem}_*/results.json")]
    return dict(sorted((results["config"]["training"]["ramp_epochs"], results) for results in found))


def scores(results: dict[str, Any], arm: str, key: str) -> list[float]:
    """Of an arm, percent by seed."""
    (runs,) = (each["runs"] for each in results["arms"] if each["name"] == arm)
    return [100 * run[f"{key}_accuracy"] for run in runs]


def draw(studies: dict[str, dict[float, dict[str, Any]]]) -> Figure:
    """Verified accuracy by length, a panel for each study; lines are means over seeds, dots are seeds."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.8), layout="constrained")
        [panels] = figure.subplots(1, len(studies), squeeze=False)
        for axes, lengths in zip(panels, studies.values(), strict=True):
            draw_study(axes, lengths)
        panels[0].set_ylabel("Verified accuracy, %")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_study(axes: Axes, lengths: dict[float, dict[str, Any]]) -> None:
    """One panel; the axis of lengths is logarithmic."""
    config = next(iter(lengths.values()))["config"]
    for arm, style in ARMS.items():
        values = {length: scores(results, arm, "verified") for length, results in lengths.items()}
        axes.plot(list(values), [fmean(found) for found in values.values()], label=arm, **style)
        dots = [(length, value) for length, found in values.items() for value in found]
        axes.scatter(*zip(*dots, strict=True), s=10, alpha=0.35, color=style["color"], linewidths=0)
    axes.set_title(f"{config['data']['name']}, eps {config['eps']}, {len(config['seeds'])} seeds")
    axes.set_xlabel(f"Epochs, of {config['training']['epochs']}, in which the radius grows")
    axes.set_ylim(0, 100)
    axes.set_xscale("log")
    axes.set_xticks(list(lengths), [f"{length:g}" for length in lengths])
    axes.minorticks_off()


def table(lengths: dict[float, dict[str, Any]]) -> str:
    """A line for each length: percent, mean and standard deviation over seeds."""
    lines = ["| epochs of ramp | n | vanilla IBP: verified | clean | short warmup: verified | clean |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for length, results in lengths.items():
        found = [scores(results, arm, key) for arm in ARMS for key in ("verified", "clean")]
        cells = [f"{fmean(values):.2f} ± {stdev(values):.2f}" for values in found]
        lines.append(f"| {length:g} | {len(found[0])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Collect, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "ramp_length")
    options = parser.parse_args()
    recipes = sorted(options.folder.glob("*.yaml"))
    studies = {recipe.stem: found for recipe in recipes if (found := collected(recipe))}
    if not studies:
        parser.error(f"{options.folder} holds no NAME.yaml with results in NAME_N/results.json: run a length first.")
    save_figure(draw(studies), options.folder / "ramp_length.png")
    for name, lengths in studies.items():
        print(f"{name}:\n\n{table(lengths)}\n")


if __name__ == "__main__":
    main()
