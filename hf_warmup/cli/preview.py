"""`hf-warmup preview` simulates a set-up and draws its curve, in the terminal and, if asked, as a picture."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record


if TYPE_CHECKING:
    from hf_warmup.lr_scheduler.preview import Preview


_BLOCKS = " ▁▂▃▄▅▆▇█"


def show_preview(values: dict[str, Any], options: list[str], *, png: Path | None, as_json: bool = False) -> None:
    """Print what a set-up will do, and save its picture.

    Args:
        values: fields of `Setup`.
        options: KEY=VALUE keywords of the scheduler, values read as YAML.
        png: where to save the picture.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: for a set-up that cannot be.
    """
    from hf_warmup.lr_scheduler.preview import Setup, preview

    try:
        setup = Setup(**values, options=_parsed(options))
        with shown(things="updates") as tell:
            found = preview(setup, progress=partial(tell, "simulation"))
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None
    if png is not None:
        save_picture(found, png)
    if as_json:
        print_json(document(found, png))
        return
    console = console_for(as_json, soft_wrap=False)
    width = max(20, min(100, console.width - 10))
    for line in draw(found.multipliers, width=width, unicode=console.encoding.lower().startswith("utf")):
        console.print(line)
    for key, value in facts(found):
        console.print(f"{key:<26}{value}")
    for warning in found.warnings:
        console.print(f"[yellow]![/yellow] {warning}", soft_wrap=True)
    if png is not None:
        console.print(f"Picture: {png}")


def document(found: "Preview", png: Path | None) -> Record:
    """A preview for scripts; rates and multipliers are those of the updates 1, 2, ..., as `multipliers` lists them."""
    rate = found.setup.learning_rate
    return {
        "setup": asdict(found.setup),
        "num_updates": len(found.multipliers),
        "warmup_updates": found.warmup_updates,
        "warmup_share": found.warmup_share,
        "effective_warmup_period": found.effective_warmup_period,
        "first_learning_rate": rate * found.multipliers[0],
        "peak_learning_rate": rate * found.peak_multiplier,
        "peak_update": found.peak_update,
        "last_learning_rate": found.last_learning_rate,
        "warnings": found.warnings,
        "multipliers": found.multipliers,
        "picture": png,
    }


def facts(found: "Preview") -> list[tuple[str, str]]:
    """The numbers of a preview, in words."""
    rate = found.setup.learning_rate
    peak = found.peak_multiplier
    return [
        ("updates in the run", f"{len(found.multipliers)}"),
        ("warmup", f"{found.warmup_updates:g} updates, {100 * found.warmup_share:.3g} % of the run"),
        ("effective warmup period", f"{found.effective_warmup_period:.5g} updates"),
        ("first learning rate", f"{rate * found.multipliers[0]:.4g}"),
        ("peak", f"{rate * peak:.4g} ({peak:.4g} of the base rate) at update {found.peak_update}"),
        ("last learning rate", f"{found.last_learning_rate:.4g}"),
    ]


def draw(values: tuple[float, ...], *, width: int, height: int = 10, unicode: bool = True) -> list[str]:
    """A curve in text: one column per equal share of the run (its mean), from 0 to the largest multiplier or 1.

    Args:
        values: multipliers, one per update.
        width, height: of the curve in characters.
        unicode: eighth blocks; else whole characters.
    """
    top = max(1.0, *values)
    width = min(width, len(values))
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    lines = []
    for row in range(height, 0, -1):
        cells = [min(1.0, max(0.0, mean / top * height - (row - 1))) for mean in means]
        drawn = "".join(_BLOCKS[math.ceil(8 * cell - 0.5)] if unicode else " #"[cell >= 0.5] for cell in cells)
        lines.append(f"{top * row / height:5.2f} {drawn}")
    return [*lines, f"{0:5.2f} {'-' * width}", f"{'':5} 1{str(len(values)):>{max(1, width - 1)}}"]


def save_picture(found: "Preview", path: Path) -> None:
    """The learning rate over the run, as a PNG, whole or not at all."""
    import matplotlib
    from matplotlib.figure import Figure

    from hf_warmup.report.plots import STYLE, save_figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        rates = [found.setup.learning_rate * value for value in found.multipliers]
        axes.plot(range(1, len(rates) + 1), rates, color="#0072B2")
        if found.warmup_updates:
            axes.axvspan(0, min(found.warmup_updates, len(rates)), color="#EAF1F6", zorder=0, label="warmup")
            axes.legend(loc="upper right")
        axes.set_title(found.setup.name)
        axes.set_xlabel("Update")
        axes.set_ylabel("Learning rate")
        axes.set_xlim(0, len(rates))
        axes.set_ylim(0, 1.05 * max(rates) or 1.0)
    save_figure(figure, path)


def _parsed(options: list[str]) -> dict[str, Any]:
    pairs = [option.partition("=") for option in options]
    wrong = [option for option, (key, separator, _) in zip(options, pairs, strict=True) if not (key and separator)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is not of the form key=value, such as decay=cosine.")
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError:
        raise ConfigError(f"the values of {', '.join(options)} cannot be read as YAML.") from None


def preview_command(
    name: Annotated[str, typer.Argument(help="Name of a schedule, ours or transformers'.")] = "untuned_linear_warmup",
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Options of the schedule, such as decay=cosine."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Base learning rate.")] = 1e-3,
    beta2: Annotated[float, typer.Option(help="Adam's second beta.")] = 0.999,
    optimizer: Annotated[str, typer.Option(help="adamw or radam.")] = "adamw",
    num_training_steps: Annotated[int | None, typer.Option(help="Length of the run in updates.")] = None,
    dataset_size: Annotated[
        int | None, typer.Option(help="Number of training examples, from which the length follows.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data, with --dataset-size.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Examples for each process and forward pass.")] = 8,
    processes: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    accumulation: Annotated[int, typer.Option(help="Forward passes per update.")] = 1,
    warmup_steps: Annotated[int, typer.Option(help="Length of the warmup, for schedules that take one.")] = 0,
    prepared: Annotated[
        bool, typer.Option(help="Simulate a scheduler that went through Accelerator.prepare.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Save the curve as a picture.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a schedule will really do to the learning rate, and warn of surprises."""
    values = {
        "name": name,
        "learning_rate": learning_rate,
        "beta2": beta2,
        "optimizer": optimizer,
        "num_training_steps": num_training_steps,
        "dataset_size": dataset_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "num_processes": processes,
        "gradient_accumulation_steps": accumulation,
        "num_warmup_steps": warmup_steps,
        "prepared": prepared,
    }
    show_preview(values, list(options or []), png=png, as_json=as_json)
