"""Draw the pictures of this folder: every warmup with every decay, and the overview at the top of the README.

    python recipes/gallery/draw.py

Curves come from the real schedules, the overview's other panels from committed results. The same results give the same
bytes.
"""

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_warmup.certified.certificate import radii_in
from hf_warmup.lr_scheduler.preview import Setup, preview
from hf_warmup.report.plots import STYLE, proven_shares, save_figure
from hf_warmup.schedules.tables import DECAYS, TUNED_WARMUPS, UNTUNED_WARMUPS


ROOT = Path(__file__).parents[2]
LENGTH, BETA2, NUM_WARMUP_STEPS = 1000, 0.99, 200
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
FORMULAS = {
    "linear_warmup": "min(1, t / period)",
    "exponential_warmup": "1 - exp(-t / period)",
    "untuned_linear_warmup": "min(1, t (1 - beta2) / 2)",
    "untuned_exponential_warmup": "1 - exp(-t (1 - beta2))",
    "radam_warmup": "r_t where rho_t > 5, else 0",
}


def curve(name: str) -> tuple[float, ...]:
    """Multipliers of a run of `LENGTH` updates."""
    steps = NUM_WARMUP_STEPS if name.endswith(tuple(f"_{tuned}" for tuned in TUNED_WARMUPS)) else 0
    steps = 0 if "untuned" in name else steps
    setup = Setup(name, beta2=BETA2, num_training_steps=LENGTH, num_warmup_steps=steps)
    return preview(setup).multipliers


def gallery(decay: str) -> Figure:
    """All warmups under one decay, one panel each."""
    figure = Figure(figsize=(9.6, 2.2), layout="constrained")
    panels = figure.subplots(1, len(FORMULAS), sharey=True)
    for panel, (warmup, formula), color in zip(panels, FORMULAS.items(), COLORS, strict=False):
        panel.plot(range(1, LENGTH + 1), curve(f"{decay}_with_{warmup}"), color=color, linewidth=1.8)
        panel.set_title(f"{warmup}\n{formula}", fontsize=8)
        panel.set_xlim(0, LENGTH)
        panel.set_ylim(0, 1.08)
        panel.set_xlabel("Update")
    panels[0].set_ylabel("Multiplier")
    return figure


def overview() -> Figure:
    """Three questions, three panels: what the warmups do, whether they do as well, what is proven."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    warmups, verdicts, proofs = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    draw_warmups(warmups)
    draw_verdicts(verdicts, json.loads((ROOT / "recipes" / "compare" / "digits_vit" / "results.json").read_text()))
    draw_proofs(proofs)
    return figure


def draw_warmups(axes: Axes) -> None:
    """The untuned warmups at Adam's usual beta2, without a decay."""
    axes.set_title("Warmups, beta2 = 0.999")
    for warmup, color in zip(UNTUNED_WARMUPS, COLORS, strict=False):
        found = preview(Setup(f"constant_with_{warmup}", beta2=0.999, num_training_steps=6000))
        axes.plot(range(1, 6001), found.multipliers, color=color, label=warmup)
    axes.set_xlabel("Update")
    axes.set_ylabel("Multiplier of the learning rate")
    axes.set_xlim(0, 6000)
    axes.set_ylim(0, 1.04)
    legend_below(axes)


def draw_verdicts(axes: Axes, results: dict) -> None:
    """Each arm's difference to the baseline with its 95 % interval, and the margin within which it does not matter."""
    [task] = results["tasks"]
    scale = 100  # fractions to points
    found = [verdict for verdict in task["verdicts"] if verdict["t_interval"]]
    axes.axvspan(-scale * task["margin"], scale * task["margin"], color="#E4EEF5", zorder=0)
    axes.axvline(0, color="#555555", linewidth=1)
    for place, verdict in enumerate(reversed(found)):
        low, high = (scale * end for end in verdict["t_interval"])
        axes.plot((low, high), (place, place), color=COLORS[0], linewidth=2)
        axes.plot(scale * verdict["difference"], place, "o", color=COLORS[0])
        word = verdict["verdict"]
        if word == "different":
            word = "better" if verdict["difference"] > 0 else "worse"
        axes.annotate(word, (scale * verdict["difference"], place), (0, 7), textcoords="offset points", ha="center")
    names = [f"{plain(verdict['arm'])},\n{verdict['n']} seeds" for verdict in reversed(found)]
    axes.set_yticks(range(len(found)), names)
    axes.set_ylim(-0.6, len(found) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"{task['name'].title()}: against {plain(results['baseline'])}")
    axes.set_xlabel("Test accuracy, points\n(band: margin)")


def plain(arm: str) -> str:
    """An arm's name as text."""
    optimizer, _, warmup = arm.partition("+")
    optimizer = {"adamw": "AdamW", "radam": "RAdam"}.get(optimizer, optimizer)
    if not warmup:
        return optimizer if arm == "radam" else f"{optimizer}, no warmup"
    return f"{optimizer},\n{warmup.replace('_', ' ')}"


def legend_below(axes: Axes, gap: float = 0.25) -> None:
    """Below the axis, where no line runs; `gap` in heights of the panel."""
    axes.legend(loc="upper left", bbox_to_anchor=(0, -gap), fontsize=8.5, handlelength=2)


def draw_proofs(axes: Axes) -> None:
    """The share of images that are right and proven within each radius, of each committed checkpoint."""
    axes.set_title("Certified accuracy")
    for number, path in enumerate(sorted((ROOT / "model_cards").glob("*/certificate.json"))):
        color = COLORS[number]
        certificate = json.loads(path.read_text())
        places, shares = proven_shares(radii_in(certificate))
        axes.step(places, shares, where="pre", color=color, label=path.parent.name)
        if certificate["method"] != "ibp":
            # Radii are those of intervals.
            axes.scatter(
                certificate["eps_value"], 100 * certificate["verified_accuracy"], color=color, marker="D", s=20
            )
    axes.set_xlabel("Radius, pixels in [0, 1]\n(diamond: by linear bounds too)")
    axes.set_ylabel("Verified images, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    legend_below(axes, gap=0.32)


def main() -> None:
    """Write all pictures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    with matplotlib.rc_context(STYLE):
        save_figure(overview(), out / "overview.png")
        for decay in DECAYS:
            save_figure(gallery(decay), out / f"{decay}.png")


if __name__ == "__main__":
    main()
