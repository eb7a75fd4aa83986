"""What is drawn at random while data are loaded is seen, and every generator stands as it stood."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_warmup.studies.comparison.own.random_data import is_drawn_at_random


def one(_: Any) -> Any:
    return torch.ones(2)


def refuses(_: Any) -> Any:
    raise ValueError("two examples at least")


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (one, False),
        (torch.rand_like, True),
        (lambda _: random.random(), True),
        (lambda _: np.random.rand(), True),
        (refuses, True),
    ],
)
@pytest.mark.parametrize("place", ["dataset", "collator"])
def test_draws_are_seen_and_undone(draw: Any, expected: bool, place: str) -> None:
    class Drawn(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            return draw(torch.ones(2))

    loader: Any
    if place == "dataset":
        loader = DataLoader(Drawn([0, 1]), collate_fn=list)  # type: ignore[arg-type]
    else:
        loader = DataLoader([0, 1], collate_fn=lambda _: draw(torch.ones(2)))  # type: ignore[arg-type]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert is_drawn_at_random(loader) is expected
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_stream_is_not_read_ahead() -> None:
    class Stream(torch.utils.data.IterableDataset[int]):
        def __iter__(self) -> Any:
            raise AssertionError("read")

    assert not is_drawn_at_random(DataLoader(Stream()))
