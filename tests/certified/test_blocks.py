"""Blocks of images: a run that is killed at any block goes on and ends bit for bit like an unbroken one."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cascade import net
from torch import Tensor, nn
from warm import Program

from hf_warmup.certified import Certificate, blocks, evaluation
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Blocks, OutOfTime, Part, block_size, in_batches
from hf_warmup.certified.cascade import Blockwise, certify_in_blocks
from hf_warmup.certified.certificate import radii_of
from hf_warmup.certified.evaluation import Assessment, assess
from hf_warmup.certified.split import Claim, kept_work
from hf_warmup.data.images import Images
from hf_warmup.errors import ConfigError
from hf_warmup.models.source import ModelSource


EPS = "3/50"
COUNT = 70


def images_for(model: nn.Module) -> Images:
    pixels = torch.randint(0, 256, (COUNT, 1, 3, 3), generator=torch.Generator().manual_seed(2)).byte()
    with torch.no_grad():
        labels = model(pixels / 255).argmax(1)
    # One is answered wrongly.
    labels[5] = (labels[5] + 1) % 4
    return Images(pixels, labels)


def everything(folder: Path | None) -> tuple[Assessment, Tensor, Certificate]:
    """All that the command finds."""
    model, kept = net(), Blocks(folder)
    images = images_for(model)
    found = assess(model, images, EPS, attack=PgdConfig(steps=3, restarts=2), batch_size=16, blocks=kept)
    radii = radii_of(model, images, 0.2, batch_size=16, blocks=kept)
    batch = images.__getitems__(range(COUNT))
    work = Blockwise("cascade", 16, blocks=kept)
    return found, radii, certify_in_blocks(model, batch["pixel_values"], batch["labels"], EPS, work)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, name), getattr(other, name)) for name in vars(one) if name != "seconds")
    return bool(one == other)


def test_a_run_that_is_killed_at_any_block_ends_like_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = everything(None)
    assert set(expected[2].method) >= {"ibp", "crown", "alpha-crown"}, "slopes are kept as well"
    assert bool(expected[2].falsified.any())  # type: ignore[union-attr]
    write, starts = blocks.write_bytes, 0

    def killed_after(most: int) -> Callable[[Path, bytes], None]:
        left = iter(range(most))

        def killed(path: Path, content: bytes) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(path, content)

        return killed

    while True:
        monkeypatch.setattr(blocks, "write_bytes", killed_after(3))
        try:
            found = everything(tmp_path)
        except KeyboardInterrupt:
            starts += 1
            continue
        break
    assert starts > 4
    assert same(found, expected)
    monkeypatch.setattr(blocks, "write_bytes", killed_after(0))
    assert same(everything(tmp_path), expected), "nothing is worked on again"


def test_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    calls = []

    def work(chosen: Tensor, told: Callable[[int], None]) -> Part:
        calls.append(chosen.tolist())
        return Part({"twice": 2 * chosen})

    kept = Blocks(tmp_path)
    first = kept.each("word", torch.arange(5), 2, work)
    assert calls == [[0, 1], [2, 3], [4]]
    cut = sorted(tmp_path.iterdir())[1]
    cut.write_bytes(cut.read_bytes()[:-3])
    again = kept.each("word", torch.arange(5), 2, work)
    assert calls[3:] == [[2, 3]]
    assert [part.tensors["twice"].tolist() for part in again] == [[0, 2], [4, 6], [8]]
    assert same([part.tensors["twice"] for part in first], [part.tensors["twice"] for part in again])
    turned = bytearray(cut.read_bytes())
    turned[-1] ^= 0x80
    cut.write_bytes(bytes(turned))
    assert [part.tensors["twice"].tolist() for part in kept.each("word", torch.arange(5), 2, work)][1] == [4, 6]
    assert calls[4:] == [[2, 3]]
    del calls[4:]
    # Other images, or another purpose, are other blocks.
    kept.each("word", torch.tensor([0, 2]), 2, work)
    kept.each("other", torch.arange(2), 2, work)
    assert calls[4:] == [[0, 2], [0, 1]]


def test_a_block_that_is_not_whole_is_not_kept(tmp_path: Path) -> None:
    def find(batch: Tensor) -> dict[str, Tensor]:
        if int(batch[0]) >= 6:
            raise OutOfTime
        return {"image": batch}

    told: list[tuple[int, int]] = []
    parts = Blocks(tmp_path).each(
        "word",
        torch.arange(12),
        4,
        lambda chosen, done: in_batches(chosen, 2, find, done),
        lambda *counts: told.append(counts),
    )
    assert [part.stopped for part in parts] == [None, "time"]
    assert parts[1].tensors["image"].tolist() == [4, 5]
    assert len(list(tmp_path.iterdir())) == 1
    assert told == [(2, 12), (4, 12), (6, 12)]


def test_blocks_are_whole_batches_and_not_too_small() -> None:
    assert [block_size(batch) for batch in (1, 10, 32, 100)] == [32, 40, 32, 100]


def test_memory_that_ends_with_one_image_is_said() -> None:
    def find(batch: Tensor) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(ConfigError, match="radii: memory ends with a single image"):
        Blocks().whole("radii", 3, 2, find)


@pytest.mark.parametrize("batch_size", [512, 16])
def test_starts_of_the_attack_are_one_sequence_however_the_images_are_divided(
    monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    model = net()
    images = images_for(model)
    real, noise = evaluation.pgd, list[Tensor]()

    def watched(model: nn.Module, pixels: Tensor, labels: Tensor, *rest: Any, generator: Any, **options: Any) -> Any:
        right = int((model(pixels).argmax(1) == labels).sum())
        twin = torch.Generator().set_state(generator.get_state())
        noise.append(torch.rand(right, 9, generator=twin))
        return real(model, pixels, labels, *rest, generator=generator, **options)

    monkeypatch.setattr(evaluation, "pgd", watched)
    attack = PgdConfig(steps=1, restarts=2, examples=50)
    assess(model, images, EPS, attack=attack, batch_size=batch_size)
    whole = torch.cat(noise)
    assert len(whole) in (49, 50)
    assert torch.equal(whole, torch.rand(len(whole), 9, generator=torch.Generator().manual_seed(0)))


def test_a_batch_that_memory_ends_for_starts_the_attack_at_the_same_numbers() -> None:
    starts = evaluation._Starts(torch.tensor([True, False, True, True]), 9)

    def first(image: int) -> float:
        return float(torch.rand(1, generator=starts.of(image)))

    expected = torch.rand(27, generator=torch.Generator().manual_seed(0))
    assert [first(image) for image in (0, 3, 2, 2, 1)] == [float(expected[9 * k]) for k in (0, 2, 1, 1, 1)]


def test_clock_of_kept_blocks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[int] = iter(range(10**6))
    monkeypatch.setattr(blocks.time, "monotonic", lambda: float(next(ticks)))
    work = lambda chosen, told: Part({"image": chosen})  # noqa: E731
    for _ in range(2):
        parts = Blocks(tmp_path).each("word", torch.arange(4), 2, work)
        assert [part.said["seconds"] for part in parts] == [1.0, 1.0]


def test_two_processes_find_what_one_finds_and_fail_together(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "two_ranks_certify.py"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    program = Program([str(script), str(tmp_path)], environment=environment, ranks=2)
    _, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors[-3000:]
    said = [(tmp_path / f"said{rank}").read_text().splitlines() for rank in (0, 1)]
    assert said[0] == ["[0, 2]", "image 3 is in the way after [0, 0, 4, 8]"]
    assert said[1] == ["[0, 2]", "image 3 is in the way after [2, 2]"]


def test_blocks_of_a_model_whose_code_or_settings_changed_are_not_taken(tmp_path: Path) -> None:
    """Of the same weights and the same answers to two images."""
    model = net()
    images, source = images_for(model), ModelSource(tmp_path, settings={"own.py": "a"})
    claim = Claim(source, "data", "test", EPS, 0.2, PgdConfig(steps=1))

    def folder(claim: Claim) -> Path | None:
        return kept_work(claim, model, images, tmp_path, Blockwise(), batch_size=8).blocks.folder

    first = folder(claim)
    assert folder(claim) == first
    assert folder(replace(claim, source=replace(source, settings={"own.py": "b"}))) != first
    stored = replace(claim, source=ModelSource(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    second = folder(stored)
    (tmp_path / "config.json").write_text('{"scale": 2}')
    assert folder(stored) != second
    (tmp_path / "layers.py").write_text("SCALE = 2")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        importlib.import_module("layers")
        third = folder(claim)
        (tmp_path / "layers.py").write_text("SCALE = 30")
        assert len({first, second, third, folder(claim)}) == 4
        del sys.modules["layers"]
