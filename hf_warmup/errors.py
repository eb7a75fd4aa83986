"""Errors that a person can mend by changing what they asked for, and the first line of any other."""

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """A setting that cannot be used; the message says what was received, what is allowed and what to do.

    The command line prints it as one line and leaves with exit code 2.
    """


def unknown_names(given: Iterable[str], known: Iterable[str]) -> str | None:
    """A sentence about the names that are not known, the nearest known ones first; None if all are."""
    known = sorted(known)
    wrong = sorted(name for name in given if name not in known)
    if not wrong:
        return None
    near = get_close_matches(wrong[0], known, n=3)
    others = [name for name in known if name not in near]
    return f"no field named {', '.join(wrong)}; known: {', '.join([*near, *others])}"


def first_line(error: BaseException) -> str:
    """What an error says first, or its type's name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
