"""Range checks shared by the schedules: each names the keyword, what it got and what it allows."""


def check_beta2(beta2: float) -> None:
    """Raise ValueError unless 0 < beta2 < 1."""
    if not 0.0 < beta2 < 1.0:
        raise ValueError(f"beta2 must lie strictly between 0 and 1, got {beta2!r}; Adam's usual value is 0.999.")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless value > 0 (NaN is refused)."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value!r}.")


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")
