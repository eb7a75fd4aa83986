"""scikit-learn's handwritten digits: 1,797 gray images of 8 x 8 pixels, read in this one place."""

import torch
from torch import Tensor


# The value of a white pixel.
LEVELS = 16


def read_digits() -> tuple[Tensor, Tensor]:
    """All images, (1797, 1, 8, 8) in uint8 from 0 to `LEVELS`, and their classes, (1797,)."""
    # Imported here: scikit-learn takes a second, and most data sets do not need it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1), torch.tensor(digits.target)
