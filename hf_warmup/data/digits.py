"""scikit-learn's handwritten digits: 1,797 gray images of 8 x 8 pixels, read and divided in this one place.

The data set has no test split of its own; the 1,500 and 297 images of `digits_split` are this package's draw. Most of
the 297 lie among the first 1,500 of `load_digits()`: who has trained on those must not be judged by these.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_warmup.data.splits import fixed_order


# The value of a white pixel.
LEVELS = 16

_NUM_IMAGES, _NUM_TRAIN = 1797, 1500


def read_digits() -> tuple[Tensor, Tensor]:
    """All images, (1797, 1, 8, 8) in uint8 from 0 to `LEVELS`, and their classes, (1797,)."""
    # Imported here: scikit-learn takes a second, and most data sets do not need it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1), torch.tensor(digits.target)


def digits_split() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of scikit-learn's digits this package trains on, and which it tests on: row numbers, (1500,) and (297,).

    They are what the data set "digits" means in recipes, in `hf-warmup certify` and on model cards.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> digits, (train, test) = load_digits(), digits_split()
        >>> digits.images[train].shape, digits.images[test].shape
        ((1500, 8, 8), (297, 8, 8))
    """
    order = fixed_order(_NUM_IMAGES).numpy()
    return order[:_NUM_TRAIN], order[_NUM_TRAIN:]
