"""Runs somebody else's script after this package's names have been registered, changing nothing else about it."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hf_warmup.errors import ConfigError


def run_script(script: Path, arguments: Sequence[str]) -> None:
    """Run `script` as `python script arguments...` would.

    Raises:
        ConfigError: if there is no such file.
    """
    if not script.is_file():
        raise ConfigError(f"{script}: no such script.")
    import hf_warmup.lr_scheduler.registration  # noqa: F401  (registers the names)

    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")


def run(
    script: Annotated[Path, typer.Argument(help="A Python script, such as transformers' run_glue.py.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to the script as they are.")] = None,
) -> None:
    """Run an unmodified script with this package's schedule names registered.

    Under Accelerate: accelerate launch -m hf_warmup run SCRIPT ARGS...
    """
    run_script(script, arguments or [])
