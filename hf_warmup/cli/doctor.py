"""`hf-warmup doctor` says what the warmup of a Trainer's run really did."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_warmup.cli.output import AsJson, console_for, print_json


if TYPE_CHECKING:
    from hf_warmup.lr_scheduler.doctor import Diagnosis, Run


def facts(run: "Run", found: "Diagnosis") -> list[tuple[str, str]]:
    """The numbers of a diagnosis, in words."""
    given = run.arguments
    asked = "" if found.peak_share is None else f", {100 * found.peak_share:.3g} % of what was asked for"
    share = 100 * found.untuned_updates / run.num_updates
    rule = f"{found.untuned_updates:.0f} updates, {share:.3g} % of the run"
    lines = [
        (
            "updates in the run",
            f"{run.num_updates}, {len(run.rates)} rates logged, the last of update {run.rates[-1][0]}",
        ),
        ("schedule", str(given.get("lr_scheduler_type", "not known: there is no training_args.bin"))),
        ("warmup_steps asked for", str(given.get("warmup_steps", "not known"))),
        ("largest logged rate", f"{found.peak:.4g} at update {found.peak_update}{asked}"),
        ("steps per update", "not known" if found.steps_per_update is None else str(found.steps_per_update)),
        ("an untuned warmup takes", rule + '; on_short_run="cap" shortens it' * run.shortened),
    ]
    # An untuned warmup is asked for none.
    return [line for line in lines if line != ("warmup_steps asked for", "0")]


def doctor(
    run: Annotated[Path, typer.Argument(help="Folder of a Trainer's run, or of one of its checkpoints.")],
    as_json: AsJson = False,
) -> None:
    """Say what the warmup of a finished Trainer run really did: its peak, its clock, its resumptions."""
    from hf_warmup.lr_scheduler.doctor import diagnose, read_run

    read = read_run(run)
    found = diagnose(read)
    if as_json:
        print_json({"num_updates": read.num_updates, **asdict(found)})
        return
    console = console_for(as_json)
    for key, value in facts(read, found):
        console.print(f"{key:<26}{value}")
    for finding in found.findings or ("Nothing is wrong with this schedule.",):
        console.print(f"[yellow]![/yellow] {finding}" if found.findings else finding)
