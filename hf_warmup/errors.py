"""Errors that a person can mend by changing what they asked for."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message says what was received, what is allowed and what to do.

    The command line prints it as one line and leaves with exit code 2.
    """
