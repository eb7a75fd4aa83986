"""What `hf-warmup preview` does: flags in, a curve and a few numbers on the terminal, a picture if asked for."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hf_warmup.errors import ConfigError


def preview_command(
    name: Annotated[str, typer.Argument(help="A scheduler's name, this package's or transformers' own.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its options, such as decay=cosine.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="The optimizer's learning rate.")] = 1.0e-3,
    beta2: Annotated[float, typer.Option(help="The optimizer's second beta.")] = 0.999,
    num_training_steps: Annotated[int | None, typer.Option(help="Length of the run in optimizer updates.")] = None,
    dataset_size: Annotated[int | None, typer.Option(help="Training examples: the length follows from them.")] = None,
    epochs: Annotated[float, typer.Option(help="With --dataset-size.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Examples per process and forward pass.")] = 8,
    processes: Annotated[int, typer.Option(help="Devices.")] = 1,
    accumulation: Annotated[int, typer.Option(help="Forward passes per update.")] = 1,
    prepared: Annotated[
        bool, typer.Option("--prepared", help="The scheduler goes through Accelerator.prepare.")
    ] = False,
    warmup_steps: Annotated[int, typer.Option(help="num_warmup_steps, for names that take it.")] = 0,
    optimizer: Annotated[str, typer.Option(help="adamw or radam.")] = "adamw",
    png: Annotated[Path | None, typer.Option(help="Save the curve as a picture, too.")] = None,
) -> None:
    """Show what a scheduler will really do to the learning rate: curve, warmup's length, peak, pitfalls."""
    from rich.console import Console

    from hf_warmup.preview import Setup, draw, preview, save_png

    console = Console(highlight=False)
    try:
        seen = preview(
            Setup(
                name,
                learning_rate=learning_rate,
                beta2=beta2,
                optimizer=optimizer,  # type: ignore[arg-type]  # checked by Setup
                num_training_steps=num_training_steps,
                dataset_size=dataset_size,
                epochs=epochs,
                batch_size=batch_size,
                num_processes=processes,
                gradient_accumulation_steps=accumulation,
                num_warmup_steps=warmup_steps,
                prepared=prepared,
                options=parse_options(options or []),
            )
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())) from None
    unicode = "utf" in (console.encoding or "").lower()
    print_summary(console, seen)
    console.print(draw(seen, min(console.width, 100), 14, unicode=unicode), markup=False, no_wrap=True)
    for warning in seen.warnings:
        console.print(f"[yellow]Warning:[/] {warning}")
    if png is not None:
        save_png(seen, png)
        console.print(f"Picture: {png}", soft_wrap=True)


def parse_options(texts: list[str]) -> dict[str, Any]:
    """Keywords from `key=value` texts, values read as YAML.

    Raises:
        ConfigError: for a text without "=", or a value that is no YAML.
    """
    options = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"option {text!r} is not of the form key=value, such as decay=cosine.")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"option {text!r}: the value cannot be read as YAML.") from None
    return options


def print_summary(console: Any, seen: Any) -> None:
    """A few lines of numbers about a `Preview`."""
    setup, updates = seen.setup, len(seen.multipliers)
    console.print(f"[bold]{setup.name}[/], {setup.optimizer}, beta2 {setup.beta2:g}, {updates} updates")
    if seen.warmup_updates:
        console.print(
            f"warmup     {seen.warmup_updates:g} updates, {seen.warmup_share:.0%} of the run; it costs "
            f"{seen.effective_warmup_period:.4g} updates at the full rate"
        )
    peak = seen.peak_multiplier
    console.print(
        f"peak       {peak:.4g} of the learning rate ({peak * setup.learning_rate:.4g}), update {seen.peak_update}"
    )
    console.print(f"last       {seen.multipliers[-1]:.4g} of the learning rate ({seen.last_learning_rate:.4g})")
