"""Batches in an order that is a function of seed and epoch alone, so that any position can be returned to."""

from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from accelerate.data_loader import skip_first_batches
from torch.utils.data import DataLoader, Dataset, Sampler

from hf_warmup.data.random_streams import stream_seed


class ShuffledSampler(Sampler[int]):
    """A fresh permutation each epoch, drawn from `seed` and the epoch's number.

    Args:
        dataset: anything with a length.
        seed: the same seed gives the same orders, on any number of processes.
    """

    def __init__(self, dataset: Sized, *, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0; Accelerate's data loaders call this by itself."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(stream_seed(self._seed, f"order of epoch {self._epoch}"))
        yield from torch.randperm(len(self), generator=generator).tolist()


def shuffled_loader(
    dataset: Dataset[Any], *, batch_size: int, seed: int, collate: Callable[[list[Any]], Any] | None = None
) -> DataLoader[Any]:
    """Loader of full batches for `train`, shuffled anew each epoch; the incomplete last batch is dropped.

    Raises:
        ValueError: if the data set is smaller than one batch.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if size < batch_size:
        raise ValueError(f"batch_size={batch_size} exceeds the {size} training examples: no full batch can be made.")
    sampler = ShuffledSampler(dataset, seed=seed)  # type: ignore[arg-type]
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate, drop_last=True)


def endless_batches(loader: Any, *, start: int) -> Iterator[Any]:
    """Batches of a prepared loader, epoch after epoch, from the `start`-th on, 0-based.

    Opening an epoch draws no random numbers from torch's global generator: a run that opens it once more, because it
    was resumed in its middle, must not differ.
    """
    epoch, skip = divmod(start, len(loader))
    while True:
        loader.set_epoch(epoch)
        # Accelerate tells either the sampler or the data set, depending on the number of processes.
        if hasattr(loader.dataset, "set_epoch"):
            loader.dataset.set_epoch(epoch)
        batches = iter(skip_first_batches(loader, skip) if skip else loader)
        state = torch.random.get_rng_state()
        first = next(batches)
        torch.random.set_rng_state(state)
        yield first
        yield from batches
        epoch, skip = epoch + 1, 0
