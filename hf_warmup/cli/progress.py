"""How far a command is, on standard error: bars with the time left on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


# Seconds between two lines.
_EVERY = 30.0

# Told of a part of the work by its name, of what is done of it, and of what there is to do.
Tell = Callable[[str, int, int], None]


class _Speed(ProgressColumn):
    """Things a second."""

    def __init__(self, things: str) -> None:
        super().__init__()
        self._things = things

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self._things}/s")


@contextmanager
def shown(console: Console | None = None, *, things: str = "images") -> Iterator[Tell]:
    """Gives what is told of (stage, things done, things to do) by this process, and shows it.

    Args:
        console: standard error by default.
        things: what is counted.
    """
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal or console.quiet:
        yield _Lines(console, things)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(things))
    # A stage that comes twice has another number of images the second time.
    tasks: dict[tuple[str, int], TaskID] = {}
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:

        def tell(stage: str, done: int, total: int) -> None:
            if (stage, total) not in tasks:
                tasks[stage, total] = bars.add_task(stage, total=total)
            bars.update(tasks[stage, total], completed=done)

        yield tell


class _Lines:
    """A line now and then, with things a second and the time left of the stage."""

    def __init__(self, console: Console, things: str) -> None:
        self._console, self._things, self._stage = console, things, ("", 0)
        self._start = self._last = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if (stage, total) != self._stage:
            self._stage, self._start, self._last, self._first = (stage, total), now, now, done
        if now - self._last < _EVERY or done == total:
            return
        self._last = now
        speed = (done - self._first) / (now - self._start)
        left = f", {(total - done) / speed:.0f} s left" if speed else ""
        self._console.print(f"{stage}: {done} of {total} {self._things}, {speed:.2f} a second{left}")
