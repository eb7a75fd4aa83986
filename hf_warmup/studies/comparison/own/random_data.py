"""Whether a Trainer's data are drawn at random while they are loaded, as crops, flips and masked words are.

Such a run cannot go on from within an epoch as if it had not been broken (seen in transformers 5.24): the Trainer puts
generators back only after it has loaded the next batches.
"""

import random
from typing import Any

import numpy as np
import torch


def is_drawn_at_random(loader: Any) -> bool:
    """Whether loading an example moves a generator of Python, NumPy or torch; all three are put back.

    Args:
        loader: a DataLoader. What a stream draws is not seen: False. Where one example cannot be loaded alone, True.
    """
    if isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset):
        return False
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        loader.collate_fn([loader.dataset[0]])
        after = np.random.get_state()
        drawn = python != random.getstate() or not torch.equal(cpu, torch.get_rng_state())
        return drawn or any(not np.array_equal(one, other) for one, other in zip(numpy, after, strict=True))
    except Exception:
        # A batch of one is not what the person's code is made for; the training itself shows whether it works.
        return True
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
