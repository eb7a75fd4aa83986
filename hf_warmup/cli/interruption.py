"""What happens on Ctrl-C in the middle of work that can go on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def interruptible(kept: str = "Complete cells are kept") -> Iterator[None]:
    """Answer Ctrl-C with one line, which says what is kept, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        # A launcher's other processes were stopped as well, and need not say so.
        if os.environ.get("RANK", "0") == "0":
            print(f"\nhf-warmup: stopped. {kept}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
