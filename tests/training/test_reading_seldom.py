"""Updates that wait for nothing: records are read from the device in groups, and say the same."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import STEPS, Regression, dataset, run, squared_error
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.training import DivergedRecord, TrainConfig
from hf_warmup.training.checkpoints import latest_checkpoint


def run_fused(config: TrainConfig, **kwargs: Any) -> tuple[nn.Module, Iterator[Any]]:
    """As `run`, with an optimizer that can leave out an update by itself."""
    model = Regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.8), fused=True)
    loader = shuffled_loader(dataset(), batch_size=4, seed=3)
    scheduler = get_schedule(optimizer, 0, STEPS)
    objective = kwargs.pop("objective", squared_error)
    return model, train(make_accelerator(), model, optimizer, scheduler, loader, objective, config, **kwargs)


def test_reading_seldom_changes_no_record_and_no_weight(tmp_path: Path) -> None:
    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        return {"norm": float(sum(p.norm() for p in model.parameters()))}

    options = {"num_training_steps": STEPS, "update_statistics_every": 0, "evaluate_every": 7, "checkpoint_every": 5}
    results = []
    for read_every in (1, 4):
        config = TrainConfig(**options, read_every=read_every, checkpoint_dir=tmp_path / str(read_every))
        model, records = run_fused(config, evaluate=evaluate)
        results.append((list(records), [p.detach().clone() for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    config = replace(config, checkpoint_dir=tmp_path / "third")
    list(islice(run_fused(config, evaluate=evaluate)[1], 14))
    latest = latest_checkpoint(tmp_path / "third")
    assert latest is not None
    resumed = list(run_fused(config, evaluate=evaluate)[1])
    assert resumed == [record for record in results[0][0] if record.step > latest[1]]


def test_device_leaves_out_what_is_not_finite() -> None:
    def hiccup(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, metrics = squared_error(model, batch, step)
        weights.append([p.detach().clone() for p in model.parameters()])
        return (loss * math.inf if step == 3 else loss), metrics

    weights: list[list[torch.Tensor]] = []
    config = TrainConfig(num_training_steps=8, update_statistics_every=0, read_every=8)
    model, records = run_fused(config, objective=hiccup)
    assert [r.skipped for r in records] == [False] * 3 + [True] + [False] * 4
    same = [all(map(torch.equal, before, after)) for before, after in pairwise(weights)]
    assert same == [False] * 3 + [True] + [False] * 3
    assert all(torch.isfinite(p).all() for p in model.parameters())

    def exploding(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return squared_error(model, batch, step)[0] * math.nan, {}

    config = replace(config, max_nonfinite_steps=2)
    assert list(run_fused(config, objective=exploding)[1])[-1] == DivergedRecord(2)


def test_no_update_waits_for_the_device() -> None:
    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func)
            if any(part in name for part in ("_local_scalar_dense", "nonzero", "aten.equal", "is_nonzero")):
                found.append(name)
            return func(*args, **(kwargs or {}))

    def objective(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == 0:
            found.clear()  # a loader's epoch begins with a number drawn on the host
        return squared_error(model, batch, step)

    found: list[str] = []
    config = TrainConfig(num_training_steps=4, update_statistics_every=0, read_every=4)
    _, records = run_fused(config, objective=objective)
    with Reads():
        first = next(records)
    # All four are made by now, and the first one has been read: its loss and its gradient's norm.
    assert first.step == 1
    assert found == ["aten._local_scalar_dense.default"] * 2


def test_what_needs_each_update_at_once_cannot_wait() -> None:
    for config, expected in (
        (TrainConfig(num_training_steps=2, read_every=2), "update statistics"),
        (TrainConfig(num_training_steps=2, read_every=2, update_statistics_every=0), "fused=True"),
    ):
        with pytest.raises(ValueError, match=f"read_every=2 is not possible.*{expected}"):
            next(run(config)[1])


def test_update_statistics_can_be_sparse_or_off() -> None:
    _, records = run(TrainConfig(num_training_steps=2, update_statistics_every=0))
    assert [r.update_mean for r in records] == [None, None]
