"""The loop: what it records is what happened, and a resumed run is the unbroken one."""

import fcntl
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.data.random_streams import stream_seed
from hf_warmup.errors import ConfigError
from hf_warmup.training import DivergedRecord, EvaluationRecord, StepRecord, TrainConfig
from hf_warmup.training.checkpoints import Checkpoints, latest_checkpoint


STEPS = 20


class Regression(nn.Module):
    """A line with dropout, so that a lost random state shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).squeeze(-1)


def dataset(size: int = 22) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 4, generator=generator)
    return TensorDataset(x, x.sum(1))


def squared_error(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
    x, y = batch
    return (model(x) - y).square().mean(), {"step_seen": float(step)}


def run(
    config: TrainConfig,
    *,
    accumulation: int = 1,
    model: nn.Module | None = None,
    objective: Any = squared_error,
    **kwargs: Any,
) -> tuple[nn.Module, Iterator[Any]]:
    model = model or Regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.8), weight_decay=0.1)
    scheduler = get_schedule(optimizer, 0, STEPS)
    accelerator = make_accelerator(gradient_accumulation_steps=accumulation)
    loader = shuffled_loader(dataset(), batch_size=4, seed=3)
    return model, train(accelerator, model, optimizer, scheduler, loader, objective, config, **kwargs)


def test_records_follow_the_closed_form_of_the_schedule() -> None:
    _, records = run(TrainConfig(num_training_steps=STEPS))
    steps = list(records)
    assert [r.step for r in steps] == list(range(1, STEPS + 1))
    expected = [min(1.0, t * 0.1) * (1 - (t - 1) / STEPS) for t in range(1, STEPS + 1)]
    assert [r.multiplier for r in steps] == pytest.approx(expected, rel=1e-12)
    assert [r.lr for r in steps] == pytest.approx([0.1 * m for m in expected], rel=1e-12)
    assert [r.metrics["step_seen"] for r in steps] == [float(s) for s in range(STEPS)]
    assert not any(r.skipped for r in steps)


def test_first_adam_update_moves_every_parameter_by_the_learning_rate() -> None:
    _, records = run(TrainConfig(num_training_steps=1, max_grad_norm=None))
    record = next(records)
    # |m_hat| / sqrt(v_hat) is 1 at t = 1 wherever the gradient is not 0 (dropout silences some).
    assert record.update_ratio_median == pytest.approx(1.0, abs=1e-3)
    assert 0.5 < record.update_ratio_mean <= 1.001


def test_accumulation_makes_the_same_updates_as_one_large_batch() -> None:
    class Deterministic(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.body[1] = nn.Identity()

    def losses(batch_size: int, accumulation: int) -> list[float]:
        model = Deterministic()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.8))
        accelerator = make_accelerator(gradient_accumulation_steps=accumulation)
        loader = shuffled_loader(dataset(24), batch_size=batch_size, seed=3)
        scheduler = get_schedule(optimizer, 0, STEPS)
        config = TrainConfig(num_training_steps=8)
        return [r.loss for r in train(accelerator, model, optimizer, scheduler, loader, squared_error, config)]

    assert losses(4, 3) == pytest.approx(losses(12, 1), rel=1e-4)


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


def test_dropout_does_not_reuse_the_stream_of_the_initialization() -> None:
    def drawing(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        drawn.append(float(torch.rand(())))
        return squared_error(model, batch, step)

    drawn: list[float] = []
    next(run(TrainConfig(num_training_steps=1, seed=7), objective=drawing)[1])
    streams = [stream_seed(7, "training"), stream_seed(7, "initialization"), 7, 8]
    expected = [float(torch.rand((), generator=torch.Generator().manual_seed(seed))) for seed in streams]
    assert drawn[0] == expected[0]
    assert drawn[0] not in expected[1:]


def test_interrupted_checkpoint_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "step_00000008.partial").mkdir()
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "step_00000004").mkdir()
    assert latest_checkpoint(tmp_path) == (tmp_path / "step_00000004", 4)
    assert latest_checkpoint(None) is None


def test_evaluations_come_when_due_and_after_the_last_update_without_gradients() -> None:
    modes = []

    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"step": float(step)}

    _, records = run(TrainConfig(num_training_steps=7, evaluate_every=3), evaluate=evaluate)
    evaluations = [r for r in records if isinstance(r, EvaluationRecord)]
    assert [r.step for r in evaluations] == [3, 6, 7]
    assert modes == [(False, False)] * 3


def test_evaluation_does_not_disturb_training() -> None:
    def evaluate(model: nn.Module, step: int) -> dict[str, float]:
        return {"drawn": float(torch.rand(()))}

    config = TrainConfig(num_training_steps=6, evaluate_every=1)
    _, plain = run(config)
    _, evaluated = run(config, evaluate=evaluate)
    assert list(plain) == [r for r in evaluated if isinstance(r, StepRecord)]


def test_divergence_is_a_record_and_leaves_the_weights_finite() -> None:
    def exploding(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, metrics = squared_error(model, batch, step)
        return (loss * math.nan if step >= 3 else loss), metrics

    model, records = run(TrainConfig(num_training_steps=STEPS, max_nonfinite_steps=2), objective=exploding)
    *steps, last = records
    assert last == DivergedRecord(5)
    assert [r.skipped for r in steps] == [False, False, False, True, True]
    assert steps[3].update_mean is None
    assert steps[4].multiplier == steps[3].multiplier, "an update that was not made does not advance the schedule"
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_single_overflow_does_not_end_the_run() -> None:
    def hiccup(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss, metrics = squared_error(model, batch, step)
        return (loss * math.inf if step == 3 else loss), metrics

    _, records = run(TrainConfig(num_training_steps=8, max_nonfinite_steps=2), objective=hiccup)
    assert [r.skipped for r in records] == [False] * 3 + [True] + [False] * 4


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


def test_what_accelerate_would_ignore_in_silence_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp16.*bf16"):
        make_accelerator(mixed_precision="fp16")
    with pytest.raises(ConfigError, match="log_with asks for no_such_tracker"):
        make_accelerator(log_with=["no_such_tracker"])


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_training_steps": 0}, "num_training_steps must be at least 1"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive"),
        ({"checkpoint_every": 5}, "checkpoint_every needs checkpoint_dir"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrainConfig(**{"num_training_steps": 3, **options})


def test_checkpoints_need_a_folder_to_save_to() -> None:
    with pytest.raises(ValueError, match="no checkpoint folder"):
        Checkpoints(make_accelerator(), None).save(1)


def test_orders_differ_between_epochs_and_seeds_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = shuffled_loader(dataset(), batch_size=4, seed=seed)
        loader.sampler.set_epoch(epoch)
        return list(loader.sampler)

    orders = [tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(22))
