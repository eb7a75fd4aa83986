"""What happens on Ctrl-C in the middle of a study."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def interruptible() -> Iterator[None]:
    """Answer Ctrl-C with one line and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nhf-warmup: stopped. Complete cells are kept; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
