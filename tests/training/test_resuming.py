"""A resumed run is the unbroken one, and a folder of checkpoints serves one run at a time."""

import fcntl
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import STEPS, Regression, dataset, run, squared_error
from torch import nn
from torch.utils.data import DataLoader

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.errors import ConfigError
from hf_warmup.training import DivergedRecord, TrainConfig
from hf_warmup.training.checkpoints import Checkpoints, latest_checkpoint


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("stop_after", [4, 11])
def test_resumed_run_is_the_unbroken_run_bit_for_bit(tmp_path: Path, accumulation: int, stop_after: int) -> None:
    config = TrainConfig(
        num_training_steps=STEPS, seed=5, checkpoint_every=4, checkpoint_dir=tmp_path, evaluate_every=3
    )

    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        return {"drawn": float(torch.rand(()))}

    whole, records = run(replace(config, checkpoint_every=None), accumulation=accumulation, evaluate=evaluate)
    unbroken = list(records)
    _, records = run(config, accumulation=accumulation, evaluate=evaluate)
    first = [r for r in islice(records, 2 * stop_after) if r.step <= stop_after]
    assert first
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    resumed_model, records = run(config, accumulation=accumulation, evaluate=evaluate)
    resumed = list(records)
    assert resumed[0].step == latest[1] + 1
    assert resumed == [r for r in unbroken if r.step > latest[1]]
    for a, b in zip(whole.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(list(tmp_path.glob("step_*"))) == 1, "older checkpoints are dropped"


def test_a_run_resumed_within_a_streak_of_overflows_diverges_where_the_unbroken_one_does(tmp_path: Path) -> None:
    def exploding(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, metrics = squared_error(model, batch, step)
        return (loss * math.nan if step >= 2 else loss), metrics

    config = TrainConfig(num_training_steps=STEPS, checkpoint_every=4, checkpoint_dir=tmp_path, max_nonfinite_steps=5)
    *_, last = run(config, objective=exploding)[1]
    assert last == DivergedRecord(7)
    resumed = list(run(config, objective=exploding)[1])
    assert resumed[0].step == 5
    assert resumed[-1] == last


def test_one_run_at_a_time_uses_a_folder_of_checkpoints(tmp_path: Path) -> None:
    config = TrainConfig(num_training_steps=STEPS, checkpoint_every=2, checkpoint_dir=tmp_path)
    with (tmp_path / "folder.lock").open("w") as other:
        # The system's own lock, as another process would hold it.
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is in use by another process; .*choose another checkpoint_dir"):
            next(run(config)[1])
    abandoned = run(config)[1]
    next(abandoned)
    assert next(run(config)[1]).step == 1, "a notebook's interrupted cell does not lock out the next"
    # Left by a killed process, and no part of what is saved next.
    (tmp_path / "step_00000002.partial").mkdir()
    (tmp_path / "step_00000002.partial" / "stale").touch()
    list(islice(run(config)[1], 3))
    assert not list(tmp_path.rglob("stale"))


def test_interrupted_checkpoint_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "step_00000008.partial").mkdir()
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "step_00000004").mkdir()
    assert latest_checkpoint(tmp_path) == (tmp_path / "step_00000004", 4)
    assert latest_checkpoint(None) is None


def test_loaders_that_cannot_be_resumed_are_refused() -> None:
    model = Regression()
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = get_schedule(optimizer, 0, 5000)
    loader = DataLoader(dataset(), batch_size=4, shuffle=True)
    with pytest.raises(ValueError, match="shuffled_loader"):
        next(train(make_accelerator(), model, optimizer, scheduler, loader, squared_error, TrainConfig(1)))

    class Stream(torch.utils.data.IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter([1])

    with pytest.raises(ValueError, match="with a length"):
        next(
            train(make_accelerator(), model, optimizer, scheduler, DataLoader(Stream()), squared_error, TrainConfig(1))
        )
    with pytest.raises(ValueError, match="batch_size=100 exceeds the 22"):
        shuffled_loader(dataset(), batch_size=100, seed=0)


def test_checkpoints_need_a_folder_to_save_to() -> None:
    with pytest.raises(ValueError, match="no checkpoint folder"):
        Checkpoints(make_accelerator(), None).save(1)
