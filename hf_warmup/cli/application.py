"""Assembles the command line. Each file beside this one holds a command and calls one function of the package.

A `ConfigError`, a plain `ValueError` from a wrong setting or an `OSError` becomes one line and exit code 2; what the
script of `run` raises is the script's alone. Deliberately absent here and at the head of the commands' files: imports
of torch, so that help and most mistakes are answered at once.
"""

import logging
import os
import sys
from collections.abc import Sequence

import typer

from hf_warmup.cli.certify import certify
from hf_warmup.cli.compare import compare
from hf_warmup.cli.doctor import doctor
from hf_warmup.cli.env import env
from hf_warmup.cli.export import add_verdicts, export
from hf_warmup.cli.import_weights import import_command
from hf_warmup.cli.package import package
from hf_warmup.cli.preview import preview_command
from hf_warmup.cli.publish import publish
from hf_warmup.cli.run import run
from hf_warmup.cli.smoothness import smoothness
from hf_warmup.cli.train import train
from hf_warmup.cli.verdict import verdict
from hf_warmup.cli.verify_certificate import verify_certificate
from hf_warmup.cli.zoo import zoo
from hf_warmup.errors import ConfigError


app = typer.Typer(
    name="hf-warmup",
    help="Learning-rate warmup that needs no tuning; certified training, in which the perturbation radius warms up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(train)
app.command()(certify)
app.command()(smoothness)
app.command("preview")(preview_command)
app.command()(doctor)
app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})(run)
app.command()(verdict)
app.command()(package)
app.command()(publish)
app.command()(verify_certificate)
app.command()(export)
app.command()(add_verdicts)
app.command("import")(import_command)
app.add_typer(zoo)
app.command()(env)


def one_line(error: BaseException) -> str:
    """An error in one line for a person, without a token that the Hub's client may have named."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "huggingface_hub" not in sys.modules:
        return text
    from hf_warmup.hub.failures import scrub

    return scrub(text)


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument, such as an unset shell variable gives. Those of `run`'s script are its own.

    Raises:
        ConfigError: naming the option before it, if there is one.
    """
    if arguments[:1] == ["run"]:
        return
    for before, here in zip(["", *arguments], arguments, strict=False):
        if here == "" or (here.startswith("--") and here.endswith("=")):
            option = here.rstrip("=") or before
            raise ConfigError(f"{option or 'an argument'} is empty; give it a value, or leave it out.")


def main() -> None:
    """Entry point of `hf-warmup` and `python -m hf_warmup`."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Warnings of forked tokenizers say nothing about the study.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What a script raises is the script's alone.
    ours = (ConfigError,) if sys.argv[1:2] == ["run"] else (OSError, ValueError)
    try:
        refuse_empty(sys.argv[1:])
        app()
    except ours as error:
        print(f"hf-warmup: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
