"""The radius of a perturbation as a person writes it."""

import math
from fractions import Fraction


def parse_eps(eps: float | str | Fraction) -> float:
    """A radius in pixel units from a number or a text such as "8/255", never rounded down.

    Raises:
        ValueError: if it is no number, or lies outside [0, 1].
    """
    try:
        exact = Fraction(eps)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise ValueError(f"eps must be a number or a fraction such as '8/255', got {eps!r}.") from None
    if not 0 <= exact <= 1:
        raise ValueError(f"eps must lie in [0, 1], as pixels do; got {eps!r}. Write '8/255' for 8 of 255 levels.")
    value = float(exact)
    return value if Fraction(value) >= exact else math.nextafter(value, 1.0)
