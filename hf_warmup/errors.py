"""Errors that a person can mend by changing what they asked for, and the first line of any other."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message says what was received, what is allowed and what to do.

    The command line prints it as one line and leaves with exit code 2.
    """


def first_line(error: BaseException) -> str:
    """What an error says first, or its type's name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
