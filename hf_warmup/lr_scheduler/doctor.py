"""What the warmup of a finished or running Trainer run really did, read from the learning rates that it logged.

The logged rates are held against the real scheduler, stepped once per update (`preview`). Where they differ, they are
held against the two usual faults: a scheduler that is advanced several times per update, and one that began anew
after a resumption. Deliberately absent: runs whose rate follows a loss or a metric.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.names import untuned_period
from hf_warmup.lr_scheduler.preview import Setup, preview
from hf_warmup.lr_scheduler.short_runs import short_run_advice
from hf_warmup.lr_scheduler.training_arguments import read_training_arguments


# Numbers of scheduler steps per update that are tried: those of usual numbers of processes.
_FACTORS = (2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Run:
    """What a Trainer has written down of a run.

    Attributes:
        rates: (update, learning rate of that update), updates from 1 on, in the order of the log.
        num_updates: length of the whole run in optimizer updates.
        arguments: fields of its `TrainingArguments`, as far as they are known.
    """

    rates: tuple[tuple[int, float], ...]
    num_updates: int
    arguments: Mapping[str, Any]

    @property
    def shortened(self) -> bool:
        """Whether an untuned warmup that is too long was to be shortened."""
        options = self.arguments.get("lr_scheduler_kwargs")
        return isinstance(options, dict) and options.get("on_short_run") == "cap"


@dataclass(frozen=True)
class Diagnosis:
    """What became of a run's warmup.

    Attributes:
        peak: the largest learning rate that was logged.
        peak_update: the update that had it.
        peak_share: `peak` over the rate that was asked for; None where that is not known.
        steps_per_update: how often the scheduler was advanced for each update: 1 is right; None where no number
            explains the rates, or the schedule is not known.
        restarted_at: updates after which the schedule began anew.
        untuned_updates: length of the untuned warmup, 2 / (1 - beta2), in updates.
        findings: what a person should know, a sentence or two each; empty where all is as it was asked for.
    """

    peak: float
    peak_update: int
    peak_share: float | None
    steps_per_update: int | None
    restarted_at: tuple[int, ...]
    untuned_updates: float
    findings: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Read a run of transformers' Trainer.

    Args:
        folder: a checkpoint's, with `trainer_state.json` and, if it is there, `training_args.bin`; or a run's, of
            whose checkpoints the last is read.

    Raises:
        ConfigError: where there is no such file, or no learning rate was logged.
    """
    places = [folder, *sorted(folder.glob("checkpoint-*"), key=_number, reverse=True)]
    place = next((path for path in places if (path / "trainer_state.json").is_file()), None)
    if place is None:
        raise ConfigError(
            f"{folder} holds no trainer_state.json, nor does any checkpoint-N in it; name the output_dir of a Trainer "
            "that has saved a checkpoint, or call trainer.save_state() at the end of the run."
        )
    try:
        state = json.loads((place / "trainer_state.json").read_text())
        rates = tuple(
            (int(entry["step"]), float(entry["learning_rate"]))
            for entry in state["log_history"]
            if entry.get("learning_rate") is not None
        )
        num_updates = int(state["max_steps"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{place / 'trainer_state.json'} is not what a Trainer writes ({error!r}).") from None
    if not rates:
        raise ConfigError(
            f"{place / 'trainer_state.json'} holds no learning rate: the run logged none (logging_steps)."
        )
    stored = next(
        (path / "training_args.bin" for path in (place, folder) if (path / "training_args.bin").is_file()), None
    )
    return Run(rates, num_updates, read_training_arguments(stored) if stored else {})


def diagnose(run: Run) -> Diagnosis:
    """Say what the schedule of a run really did.

    Args:
        run: from `read_run`, or made by hand.
    """
    peak_update, peak = max(run.rates, key=lambda rate: rate[1])
    beta2, asked = float(run.arguments.get("adam_beta2", 0.999)), run.arguments.get("learning_rate")
    expected = _expected(run)
    restarts = _restarts(run.rates)
    factor = _steps_per_update(run.rates, expected, restarts) if expected else None
    period = untuned_period(beta2)
    share = peak / asked if asked else None
    # A run that goes on may still rise.
    highest = max(expected) / asked if expected and asked else share
    findings = tuple(_findings(run, expected is not None, factor, restarts, period, highest))
    return Diagnosis(peak, peak_update, share, factor, restarts, period, findings)


def _number(path: Path) -> int:
    suffix = path.name.removeprefix("checkpoint-")
    return int(suffix) if suffix.isdecimal() else -1


def _expected(run: Run) -> tuple[float, ...] | None:
    """The rates of a schedule that is stepped once per update and behind the run's end, where it is known."""
    given = run.arguments
    if "lr_scheduler_type" not in given or not given.get("learning_rate"):
        return None
    warmup = given.get("warmup_steps") or 0
    # Below 1 it is a share of the run, as transformers reads it.
    steps = math.ceil(warmup * run.num_updates) if 0 < warmup < 1 else int(warmup)
    try:
        setup = Setup(
            name=given["lr_scheduler_type"],
            learning_rate=float(given["learning_rate"]),
            beta2=float(given.get("adam_beta2", 0.999)),
            num_training_steps=run.num_updates,
            num_warmup_steps=steps,
            options=given.get("lr_scheduler_kwargs") or {},
        )
        return tuple(setup.learning_rate * multiplier for multiplier in preview(setup).multipliers)
    except (ValueError, TypeError):
        return None


def _restarts(rates: Sequence[tuple[int, float]]) -> tuple[int, ...]:
    """Updates after which the rate fell to less than half at once and then rose again."""
    found = []
    for (before, high), (_, low), (_, later) in zip(rates, rates[1:], rates[2:], strict=False):
        if low < high / 2 and later > low * (1 + _TOLERANCE):
            found.append(before)
    return tuple(found)


def _steps_per_update(
    rates: Sequence[tuple[int, float]], expected: Sequence[float], restarts: Sequence[int]
) -> int | None:
    """The number of scheduler steps per update that explains all rates before the first restart."""
    kept = [rate for rate in rates if not restarts or rate[0] <= restarts[0]]

    def explains(factor: int) -> bool:
        return all(
            math.isclose(
                rate, expected[min((update - 1) * factor, len(expected) - 1)], rel_tol=_TOLERANCE, abs_tol=0.0
            )
            for update, rate in kept
            if (update - 1) * factor < len(expected)
        )

    # One rate alone may fit many numbers: 1 is tried first.
    return next((factor for factor in (1, *_FACTORS) if explains(factor)), None)


def _findings(
    run: Run, known: bool, factor: int | None, restarts: tuple[int, ...], period: float, share: float | None
) -> Iterator[str]:
    for update in restarts:
        yield (
            f"After update {update} the learning rate fell to less than half and rose again: the schedule began anew "
            f"there, as after a resumption that does not restore it. Resume with resume_from_checkpoint."
        )
    if factor is not None and factor > 1:
        yield (
            f"The scheduler was advanced {factor} times per update, as Accelerate does with a prepared scheduler on "
            f"{factor} processes: the warmup was {factor} times too short. Multiply both lengths by {factor}, do not "
            f"prepare the scheduler, or use an untuned warmup, which counts updates."
        )
    if known and factor is None and not restarts:
        yield "The logged rates are not those of the schedule in training_args.bin; was another one handed over?"
    if share is not None and share < 0.5:
        yield (
            f"The learning rate does not rise above {100 * share:.3g} % of what was asked for. "
            f"{short_run_advice(1 - 2 / max(2.5, 0.1 * run.num_updates))}"
        )
    if period > run.num_updates and not run.shortened:
        yield (
            f"An untuned warmup at this beta2 takes {period:.0f} updates, and the run has {run.num_updates}: it would "
            f"not finish."
        )
