"""Streams of random numbers: none is used twice."""

import torch

from hf_warmup.data.loaders import ShuffledSampler
from hf_warmup.data.random_streams import stream_seed


def test_no_two_uses_share_a_stream() -> None:
    uses = [(s, p, r) for s in range(20) for p in ("initialization", "training", "order of epoch 0") for r in range(8)]
    seeds = [stream_seed(*use) for use in uses]
    assert len(set(seeds)) == len(uses)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert stream_seed(3, "training", 1) != stream_seed(4, "training", 0), "sums would be equal"


def test_an_order_is_not_drawn_from_the_stream_of_plain_seeds() -> None:
    plain = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    assert list(ShuffledSampler(range(50), seed=0)) != plain
