"""Augmentation: a function of seed, epoch and index alone, which moves pixels evenly and makes none."""

from itertools import product

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from hf_warmup import shuffled_loader
from hf_warmup.data.augmentation import Augmentation, _mixed, _signed
from hf_warmup.data.images import Images, same


IMAGES = torch.arange(6 * 3 * 5 * 5, dtype=torch.float32).view(6, 3, 5, 5)
BOTH = Augmentation(7, flip=True, padding=2)


def test_mixing_is_splitmix64() -> None:
    # The first outputs of the published generator from state 0, and from one whose products overflow.
    assert int(_mixed(torch.tensor(0))) == _signed(0xE220A8397B1DCDAF)
    assert int(_mixed(torch.tensor(_signed(0x9E3779B97F4A7C15)))) == _signed(0x6E789E6AA1B965F4)


@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 3))
def test_an_image_is_changed_alike_in_any_batch(order: list[int], count: int, epoch: int) -> None:
    whole = BOTH(IMAGES, torch.arange(6), epoch=epoch)
    chosen = torch.tensor(order[:count])
    assert torch.equal(BOTH(IMAGES[chosen], chosen, epoch=epoch), whole[chosen])


def test_seeds_epochs_and_indices_differ() -> None:
    image = torch.rand(1, 1, 16, 16)
    found = [
        Augmentation(seed, padding=8)(image, torch.tensor([index]), epoch=epoch)
        for seed, epoch, index in product(range(4), repeat=3)
    ]
    # 64 draws of 289 places agree in 7 of their 2,016 pairs on average.
    pairs = sum(torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert pairs < 20


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("below", [2, 9])
def test_draws_are_even(number: int, below: int) -> None:
    draws = BOTH._draws(torch.arange(20_000), 5, number=number, below=below)
    assert chisquare(torch.bincount(draws, minlength=below)).pvalue > 1e-3


def test_rows_columns_and_flips_are_independent() -> None:
    flips, rows, columns = (
        BOTH._draws(torch.arange(50_000), 0, number=number, below=below) for number, below in ((0, 2), (1, 5), (2, 5))
    )
    cells = torch.bincount((flips * 5 + rows) * 5 + columns, minlength=50)
    assert chisquare(cells).pvalue > 1e-3
    later = BOTH._draws(torch.arange(50_000), 1, number=1, below=5)
    assert chisquare(torch.bincount(rows * 5 + later, minlength=25)).pvalue > 1e-3


def test_pixels_are_moved_and_none_is_made() -> None:
    moved = BOTH(IMAGES, torch.arange(6), epoch=0)
    assert moved.shape == IMAGES.shape
    assert not torch.equal(moved, IMAGES)
    for image, channels in zip(moved.flatten(0, 1), IMAGES.flatten(0, 1), strict=True):
        assert set(image.flatten().tolist()) <= set(channels.flatten().tolist())


def test_crops_are_those_of_an_edge_padded_image() -> None:
    crops = {}
    for epoch in range(200):
        crops[tuple(Augmentation(0, padding=1)(IMAGES[:1], torch.tensor([0]), epoch=epoch).flatten().tolist())] = None
    padded = torch.nn.functional.pad(IMAGES[:1], [1] * 4, mode="replicate")
    expected = {
        tuple(padded[:, :, row : row + 5, column : column + 5].flatten().tolist())
        for row, column in product(range(3), repeat=2)
    }
    assert set(crops) == expected


def test_batches_come_as_the_epoch_has_them() -> None:
    images = Images(torch.randint(0, 256, (6, 3, 5, 5), dtype=torch.uint8), torch.arange(6)).augmented(BOTH)
    images.set_epoch(3)
    batch = images.__getitems__([4, 1])
    plain = images.augmented(None).__getitems__([4, 1])["pixel_values"]
    assert torch.equal(batch["pixel_values"], BOTH(plain, torch.tensor([4, 1]), epoch=3))
    assert batch["labels"].tolist() == [4, 1]
    assert torch.equal(images[4]["pixel_values"], batch["pixel_values"][0])
    assert torch.equal(images[1:5:3]["pixel_values"].flip(0), batch["pixel_values"])
    assert images.to(torch.device("cpu")).images.dtype == torch.uint8


def test_processes_share_an_epoch_without_overlap() -> None:
    images = Images(torch.zeros(24, 1, 2, 2, dtype=torch.uint8), torch.arange(24))
    sampler = shuffled_loader(images, batch_size=4, seed=0, collate=same).batch_sampler
    shares = [
        [index for batch in BatchSamplerShard(sampler, num_processes=3, process_index=rank) for index in batch]
        for rank in range(3)
    ]
    assert sorted(sum(shares, [])) == list(range(24))
