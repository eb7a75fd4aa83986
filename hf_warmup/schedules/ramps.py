"""Ramps: schedules of what grows beside the learning rate, such as the perturbation radius of certified training."""


def smoothed_ramp(step: int, *, start: int, length: int) -> float:
    """Ramp from 0 to 1 for a perturbation radius: quartic for the first quarter, then linear with equal slope.

    With `mid` a quarter of the way (whole steps): `a (step - start)^4` before `mid`, a straight line from there to 1
    at `start + length`, where `a` makes value and slope continuous.

    Args:
        start: the last step at 0.
        length: steps of the ramp, >= 1.

    Source: Shi et al., arXiv 2103.17268, appendix; the schedule of their published code.

    Example:
        >>> [round(smoothed_ramp(s, start=10, length=100), 6) for s in (10, 35, 110)]
        [0.0, 0.076923, 1.0]
    """
    if length < 1:
        raise ValueError(f"length must be at least 1 step, got {length!r}.")
    quarter = int(length * 0.25)
    elapsed = step - start
    if elapsed <= 0:
        return 0.0
    at_quarter = quarter / (4 * (length - quarter) + quarter)
    if elapsed < quarter:
        return at_quarter * (elapsed / quarter) ** 4
    return min(1.0, at_quarter + (1.0 - at_quarter) * (elapsed - quarter) / (length - quarter))
