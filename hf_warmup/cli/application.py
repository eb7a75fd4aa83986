"""The command line: parsing and printing only; every command calls one function of the package.

A `ConfigError`, a plain `ValueError` from a wrong setting or an `OSError` becomes one line and exit code 2; what the
script of `run` raises is the script's alone.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hf_warmup.cli.folders import writable
from hf_warmup.cli.hub import hub


app = typer.Typer(
    name="hf-warmup",
    help="Learning-rate warmup that needs no tuning, and certified robust training that rests on it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(hub)

STUDIES = Path(__file__).parents[1] / "studies" / "defaults"


@app.command()
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A study and overrides such as training.beta2=0.98."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Results folder; runs/NAME by default. Run again to go on.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Use seeds 0 to SEEDS-1 instead of the study's.")] = None,
    shard: Annotated[
        str, typer.Option(help="i/n: every n-th pair of task and seed, from the i-th; all share --out.")
    ] = "1/1",
) -> None:
    """Compare Adam with warmup against RAdam, with several seeds and a statistical verdict.

    Without CONFIG.yaml: a small ViT on real handwritten digits, two to three minutes on two CPU cores.
    """
    from hf_warmup.cli.compare import compare_and_report

    config, overrides = split_arguments(arguments, default=STUDIES / "digits_vit.yaml")
    with interruptible():
        compare_and_report(config, overrides, out=out, num_seeds=seeds, shard=parse_shard(shard))


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A recipe and overrides such as eps=8/255."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Results folder; runs/NAME by default. Run again to go on.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Use seeds 0 to SEEDS-1 instead of the recipe's.")] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Push models there, with each checkpoint and at the end.")
    ] = None,
    compile_steps: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile training steps; by default on a GPU only."),
    ] = None,
) -> None:
    """Train certifiably robust image classifiers with a short warmup, and prove how robust they are.

    Without CONFIG.yaml: a small network on real handwritten digits, by two methods; two minutes on two CPU cores.
    """
    from hf_warmup.cli.train import train_and_report

    config, overrides = split_arguments(arguments, default=STUDIES / "digits_certified.yaml")
    if compile_steps is not None:
        overrides = (*overrides, f"training.compile={str(compile_steps).lower()}")
    with interruptible():
        train_and_report(config, overrides, out=out, num_seeds=seeds, push_to=push_to_hub)


@app.command()
def certify(
    model: Annotated[str, typer.Argument(help="An image classifier: folder or Hub name; safetensors only.")],
    data: Annotated[str, typer.Argument(help='"digits", a Hub data set, or a folder.')],
    eps: Annotated[str, typer.Option(help="L-infinity radius for pixels in [0, 1], such as 8/255.")],
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    examples: Annotated[int | None, typer.Option(min=1, help="Only EXAMPLES images, drawn by a fixed seed.")] = None,
    largest_eps: Annotated[str | None, typer.Option(help="Where the radius curve ends; 4 eps by default.")] = None,
    pgd_steps: Annotated[int, typer.Option(min=1, help="Steps of the attack.")] = 40,
    pgd_restarts: Annotated[int, typer.Option(min=1, help="Random starts of the attack.")] = 1,
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of certificate.json and the radius curve.")
    ] = Path("certificate"),
) -> None:
    """Prove, image by image, that no perturbation up to a radius changes a classifier's answer."""
    from hf_warmup.cli.certify import certify_and_report

    certify_and_report(
        model,
        data,
        eps=eps,
        split=split,
        examples=examples,
        largest_eps=largest_eps,
        steps=pgd_steps,
        restarts=pgd_restarts,
        out=out,
    )


@app.command()
def smoothness(
    records: Annotated[Path, typer.Argument(help="JSON lines of a run, from SmoothnessProbe(path=...).")],
    f_star: Annotated[float | None, typer.Option(help="Lowest loss there is; the probe's by default.")] = None,
    quantile: Annotated[float, typer.Option(help="Share of measurements at or below the fit.")] = 0.9,
    beta2: Annotated[float, typer.Option(help="Adam's second beta, for the untuned rule.")] = 0.999,
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of smoothness.json and smoothness.png.")] = Path(
        "smoothness"
    ),
) -> None:
    """Fit a run's curvature as a function of its loss gap, and say what warmup follows from it."""
    from hf_warmup.cli.smoothness import smoothness_and_report

    smoothness_and_report(records, f_star=f_star, quantile=quantile, beta2=beta2, out=out)


@app.command("preview")
def preview_command(
    name: Annotated[str, typer.Argument(help="A schedule's name, ours or transformers'.")] = "untuned_linear_warmup",
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as decay=cosine.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Base learning rate.")] = 1e-3,
    beta2: Annotated[float, typer.Option(help="Adam's second beta.")] = 0.999,
    optimizer: Annotated[str, typer.Option(help="adamw or radam.")] = "adamw",
    num_training_steps: Annotated[int | None, typer.Option(help="Length of the run in updates.")] = None,
    dataset_size: Annotated[int | None, typer.Option(help="Training examples, instead of a length.")] = None,
    epochs: Annotated[float, typer.Option(help="With --dataset-size.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Per process and forward pass.")] = 8,
    processes: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    accumulation: Annotated[int, typer.Option(help="Forward passes per update.")] = 1,
    warmup_steps: Annotated[int, typer.Option(help="For schedules that take a length.")] = 0,
    prepared: Annotated[bool, typer.Option(help="The scheduler goes through Accelerator.prepare.")] = False,
    png: Annotated[Path | None, typer.Option(help="Save the curve as a picture.")] = None,
) -> None:
    """Show what a schedule will really do to the learning rate, and warn of surprises."""
    from hf_warmup.cli.preview import show_preview

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
    show_preview(values, list(options or []), png=png)


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    script: Annotated[Path, typer.Argument(help="A Python script, such as transformers' run_glue.py.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to the script as they are.")] = None,
) -> None:
    """Run an unmodified script with this package's schedule names registered.

    Under Accelerate: accelerate launch -m hf_warmup run SCRIPT ARGS...
    """
    from hf_warmup.cli.run import run_script

    run_script(script, arguments or [])


@app.command()
def verdict(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES.csv", help="A table with the columns seed, arm and score.")
    ],
    margin: Annotated[
        float, typer.Option(help="Largest difference that counts as equivalent, in units of the score.")
    ],
    baseline: Annotated[str | None, typer.Option(help="Arm that the others are compared with; the first one.")] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better/--higher-is-better", help="Lower for losses and perplexities.")
    ] = False,
    resolution: Annotated[
        float | None, typer.Option(help="Smallest step of a score, such as 0.01 for 100 test examples.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each verdict's sentence, too.")] = False,
) -> None:
    """Say of scores that you have already whether each arm is equivalent to a baseline, or different."""
    from hf_warmup.cli.verdict import judge_and_print

    judge_and_print(
        scores,
        margin=margin,
        baseline=baseline,
        lower_is_better=lower_is_better,
        resolution=resolution,
        explain=explain,
    )


def split_arguments(arguments: list[str] | None, *, default: Path) -> tuple[Path, tuple[str, ...]]:
    """The YAML, if the first argument is one, and the overrides."""
    values = list(arguments or [])
    config = Path(values.pop(0)) if values and "=" not in values[0] else default
    return config, tuple(values)


@contextmanager
def interruptible() -> Iterator[None]:
    """Answer Ctrl-C with one line and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nhf-warmup: stopped. Complete cells are kept; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from "i/n".

    Raises:
        ConfigError: unless 1 <= i <= n.
    """
    from hf_warmup.errors import ConfigError

    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--shard must be i/n with 1 <= i <= n, such as 1/4; got {text!r}.")
    return int(index), int(count)


def main() -> None:
    """Entry point of `hf-warmup` and `python -m hf_warmup`."""
    from hf_warmup.errors import ConfigError

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Tokenizers fork warnings and progress bars of single files say nothing about the study.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What a script raises is the script's alone.
    ours = (ConfigError,) if sys.argv[1:2] == ["run"] else (OSError, ValueError)
    try:
        app()
    except ours as error:
        print(f"hf-warmup: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        sys.exit(2)
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
