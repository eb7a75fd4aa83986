"""`hf-warmup run` registers this package's names and then runs somebody else's script as it is."""

import argparse
import json
import os
import runpy
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_warmup.errors import ConfigError


# An option whose name holds "sched" and whose choices hold these two lists the names of transformers' schedules.
_STOCK_NAMES, _CALLED = {"linear", "cosine"}, "sched"


def run_script(
    script: Path, arguments: Sequence[str], *, optimizer: str | None = None, kwargs: dict[str, Any] | None = None
) -> None:
    """Run `script` as `python script arguments...` would; an option that lists transformers' schedules takes ours too.

    Args:
        script, arguments: as on the command line.
        optimizer, kwargs: of every transformers Trainer in it, as in an arm of a comparison; its own by default.

    Raises:
        ConfigError: if there is no such file or optimizer, or a DeepSpeed config would replace the schedule that is
            asked for.
        SystemExit: with code 1 after an exception of the script, whose traceback is printed without our own frames.
    """
    if not script.is_file():
        raise ConfigError(f"{script}: no such script.")
    _check_deepspeed(arguments)
    from hf_warmup.lr_scheduler.registration import registered_schedulers

    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    with ExitStack() as stack:
        stack.enter_context(_choices_extended(registered_schedulers()))
        if optimizer is not None:
            from hf_warmup.studies.comparison.own.equipment import every_trainer_equipped

            stack.enter_context(every_trainer_equipped(optimizer, kwargs or {}))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Exception as error:
            frames = error.__traceback__
            while frames is not None and frames.tb_frame.f_code.co_filename != str(script):
                frames = frames.tb_next
            # A script that cannot even be read has none.
            error.__traceback__ = frames
            sys.excepthook(type(error), error, error.__traceback__)
            raise SystemExit(1) from None


def _check_deepspeed(arguments: Sequence[str]) -> None:
    """Refuse a schedule that DeepSpeed would replace without a word.

    Raises:
        ConfigError: if `--deepspeed` names a config with a scheduler of its own, and `--lr_scheduler_type` is given.
    """
    name, config = (_value_of(option, arguments) for option in ("lr_scheduler_type", "deepspeed"))
    if name is None or config is None:
        return
    try:
        text = config if config.lstrip().startswith("{") else Path(config).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError):
        return  # the script says what it makes of that
    if isinstance(found, dict) and found.get("scheduler"):
        raise ConfigError(
            f"--deepspeed {config}: its `scheduler` section would replace --lr_scheduler_type {name} without a word. "
            f"Remove the section, or the option."
        )


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What a command line gives to an option, in either spelling; the last one counts."""
    names, found = (f"--{option}", f"--{option.replace('_', '-')}"), None
    for here, following in zip(arguments, [*arguments[1:], None], strict=False):
        key, equals, value = here.partition("=")
        if key in names:
            found = value if equals else following
    return found


@contextmanager
def _choices_extended(names: Sequence[str]) -> Iterator[None]:
    """Within, arguments of argparse that offer transformers' schedules as choices offer these names as well."""
    container: Any = argparse._ActionsContainer
    original = container.add_argument

    def add_argument(self: Any, *args: Any, **kwargs: Any) -> argparse.Action:
        action: argparse.Action = original(self, *args, **kwargs)
        if action.choices is not None:
            offered = [getattr(choice, "value", choice) for choice in action.choices]
            if set(offered) >= _STOCK_NAMES and any(_CALLED in name.lower() for name in (action.dest, *args)):
                action.choices = [*action.choices, *(name for name in names if name not in offered)]
        return action

    container.add_argument = add_argument
    try:
        yield
    finally:
        container.add_argument = original


def run(
    script: Annotated[Path, typer.Argument(help="A Python script, such as transformers' run_glue.py.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to the script as they are.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Optimizer for the script's Trainer: adamw, radam or an import path.")
    ] = None,
    optimizer_kwargs: Annotated[
        str, typer.Option(help="The optimizer's keywords as JSON. They replace the Trainer's.")
    ] = "{}",
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", hidden=True, help="End the script when the input ends.")
    ] = False,
) -> None:
    """Run an unmodified script with this package's schedule names registered.

    Options stand before SCRIPT. Under Accelerate: accelerate launch -m hf_warmup run SCRIPT ARGS...
    """
    try:
        kwargs = json.loads(optimizer_kwargs)
    except ValueError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ConfigError(
            f"--optimizer-kwargs must be a JSON object such as '{{\"eps\": 1e-6}}', got {optimizer_kwargs}."
        )
    if end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    run_script(script, arguments or [], optimizer=optimizer, kwargs=kwargs)


def _end_with_stdin() -> None:
    # Not `sys.stdin`, whose lock would be held when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)
