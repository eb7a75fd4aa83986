"""Tasks of kind script: an unmodified script that takes TrainingArguments' flags, one process for each run.

`hf-warmup run` gives it the arm's optimizer and records its updates. A script that fails is a failed run, told with
its last lines and tried again at the next start. Deliberately absent: what the script does.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own.arguments import arm_arguments, as_flags, find_metric, last_checkpoint
from hf_warmup.studies.comparison.own.config import ScriptTask
from hf_warmup.studies.comparison.own.equipment import SCORE_FILES, records_of_log
from hf_warmup.studies.comparison.own.failures import LAST_LINES, failed_record, reason_of_output
from hf_warmup.studies.comparison.own.records import as_score, both_scores, result_record, with_divergence
from hf_warmup.studies.comparison.plan import Cell, ReadyTask
from hf_warmup.studies.folder import checkpoint_path


_OF_THE_ARMS = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio", "optim")
# What parsers say of flags that they do not know: argparse, and transformers' own.
_UNKNOWN_FLAGS = ("unrecognized arguments", "not used by the HfArgumentParser")


def ready_script(study: StudyConfig, task: ScriptTask) -> ReadyTask:
    """A task of kind script, whose command can be started.

    Raises:
        ConfigError: if there is no such script, or several processes would start it.
    """
    launcher, script, rest = split_command(task.command)
    if not script.is_file():
        raise ConfigError(
            f"task {task.name}: there is no script {script.absolute()}; paths are read from where you are."
        )
    if PartialState().num_processes > 1:
        raise ConfigError(
            f"task {task.name}: a script has processes of its own. Start the comparison plainly, and write the "
            f"launcher into `command`: [accelerate, launch, --num_processes, 2, {script.name}, ...]."
        )
    if launcher and shutil.which(launcher[0]) is None:
        raise ConfigError(f"task {task.name}: the command begins with {launcher[0]!r}, which is not installed here.")
    if fixed := [flag for flag in _OF_THE_ARMS if _flag(rest, flag) is not None]:
        raise ConfigError(
            f"task {task.name}: the command holds --{fixed[0]}, which differs between arms; remove it. What all arms "
            f"share of the schedule goes into `arguments`: {{lr_scheduler_kwargs: {{decay: cosine}}}}."
        )
    several_rates = len(study.learning_rates) > 1 and not study.tuning_seeds
    facts: Record = {"sizes": {}, "constant_score": None, "num_labels": None, "parameters": None}

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        return with_divergence(_run(task, cell, folder, several_rates=several_rates))

    return ReadyTask(task, _length(task, rest), run, lambda: facts, beta2=_beta2(task, rest))


def split_command(command: Sequence[str | int | float]) -> tuple[list[str], Path, list[str]]:
    """A command's launcher, script and arguments: the script is the first word that ends in ".py".

    >>> split_command(["accelerate", "launch", "run.py", "--do_train"])
    (['accelerate', 'launch'], PosixPath('run.py'), ['--do_train'])
    >>> split_command(["python", "run.py"])
    ([], PosixPath('run.py'), [])
    """
    words = [str(word) for word in command]
    place = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
    if place is None:
        raise ConfigError(f"command {shlex.join(words)!r} holds no script, a word that ends in .py.")
    launcher = [] if words[:place] in (["python"], ["python3"]) else words[:place]
    return launcher, Path(words[place]), words[place + 1 :]


def _flag(words: Sequence[str], name: str) -> str | None:
    """The value that a command line gives to a flag, the last one holding."""
    found = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if word == f"--{name}":
            found = following
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
    return found


def _number(task: ScriptTask, rest: Sequence[str], name: str) -> float | None:
    value = task.arguments.get(name, _flag(rest, name))
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _length(task: ScriptTask, rest: Sequence[str]) -> int:
    return max(0, int(_number(task, rest, "max_steps") or 0))


def _beta2(task: ScriptTask, rest: Sequence[str]) -> float:
    return _number(task, rest, "adam_beta2") or 0.999


def _run(task: ScriptTask, cell: Cell, folder: Path, *, several_rates: bool) -> Iterator[Record]:
    output = checkpoint_path(folder, cell.name)
    _keep_whole_checkpoint(output)
    words = command_of(task, cell, output)
    lines, code = _start(words, folder / "logs" / f"{cell.name}.log")
    if code != 0:
        _check_flags(task, lines)
        command = f"exit code {code}: {shlex.join(words)}"
        yield failed_record(reason_of_output(lines, code), [command, *lines[-LAST_LINES + 1 :]])
        return
    state = output / "trainer_state.json"
    if not state.is_file():
        raise ConfigError(
            f"task {task.name}: {task.command[0]} has trained no transformers Trainer, or not into its --output_dir; "
            f"kind script needs one that does."
        )
    yield from records_of_log(read_json(state)["log_history"], task.metric.name, cell.learning_rate)
    yield result_record(_scores(task, output, several_rates), tuning=cell.tuning)


def command_of(task: ScriptTask, cell: Cell, output: Path) -> list[str]:
    """The command of one run: `hf-warmup run` with the arm, and the arm's flags behind a person's own."""
    launcher, script, rest = split_command(task.command)
    flags = arm_arguments(cell, output.absolute(), {**_intervals(rest), **task.arguments})
    checkpoint = last_checkpoint(output)
    if checkpoint is not None:
        flags["resume_from_checkpoint"] = str(checkpoint.absolute())
    kwargs = cell.arm.optimizer_kwargs
    return [
        *(launcher or [sys.executable]),
        *["-m", "hf_warmup", "run", "--end-with-stdin", "--optimizer", cell.arm.optimizer],
        *(["--optimizer-kwargs", json.dumps(kwargs)] if kwargs else []),
        *[str(script), *rest],
        *as_flags(flags),
    ]


def _intervals(rest: Sequence[str]) -> dict[str, Any]:
    """What a command says of logging, evaluation and checkpoints, which counts as given."""
    names = [f"{kind}_{key}" for kind in ("logging", "eval", "save") for key in ("strategy", "steps")]
    found = {name: value for name in (*names, "report_to", "save_total_limit") if (value := _flag(rest, name))}
    for kind in ("eval", "save"):
        if f"{kind}_steps" in found:
            found.setdefault(f"{kind}_strategy", "steps")
    return found


def _keep_whole_checkpoint(output: Path) -> None:
    """Leave what the script can go on from: scripts refuse a folder with anything else in it."""
    whole = last_checkpoint(output)
    if whole is None:
        shutil.rmtree(output, ignore_errors=True)
    for path in output.glob("checkpoint-*"):
        if path != whole:
            shutil.rmtree(path)


def _start(words: Sequence[str], log: Path) -> tuple[list[str], int]:
    """Run a command to its end; what it has written, which `log` keeps, without empty lines, and its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        # Its input ends when this process does, however it ends: then the script ends too.
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if process.poll() is None:
                process.terminate()
                process.wait()
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines, code


def _check_flags(task: ScriptTask, lines: Sequence[str]) -> None:
    said = " ".join(lines[-LAST_LINES:])
    if any(words in said for words in _UNKNOWN_FLAGS) and "--lr_scheduler_type" in said:
        raise ConfigError(
            f"task {task.name}: the script does not take --lr_scheduler_type and the like, the flags of transformers' "
            f"TrainingArguments; kind script needs one that does. For any other training there are kind trainer and "
            f"hf_warmup.compare."
        )


def _scores(task: ScriptTask, output: Path, several_rates: bool) -> dict[str, float]:
    """Scores that the script has stored, or else those that its Trainer's evaluations gave."""
    stored = next(path for name in SCORE_FILES if (path := output / name).is_file() or name == SCORE_FILES[-1])
    found: Record = read_json(stored) if stored.is_file() else {}
    name, where = task.metric.name, f"task {task.name}: what the script has scored"
    validation = as_score(find_metric(found, name, ("eval",), where), "the validation score")
    judged = [key for key in (f"test_{name}", f"predict_{name}") if key in found]
    test = as_score(found[judged[0]], "the test score") if judged else None
    try:
        return both_scores(validation, test, several_rates=several_rates)
    except ConfigError as error:
        raise ConfigError(f"task {task.name}: {error}") from None
