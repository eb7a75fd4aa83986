"""The loop: what it records is what happened, and a resumed run is the unbroken one."""

import math
from typing import Any

import pytest
import torch
from regression import STEPS, Regression, dataset, run, squared_error
from torch import nn

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.data.random_streams import stream_seed
from hf_warmup.errors import ConfigError
from hf_warmup.training import DivergedRecord, EvaluationRecord, StepRecord, TrainConfig


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


def test_what_accelerate_would_ignore_in_silence_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp16.*bf16"):
        make_accelerator(mixed_precision="fp16")
    with pytest.raises(ConfigError, match="log_with asks for no_such_tracker"):
        make_accelerator(log_with=["no_such_tracker"])


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


def test_orders_differ_between_epochs_and_seeds_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = shuffled_loader(dataset(), batch_size=4, seed=seed)
        loader.sampler.set_epoch(epoch)
        return list(loader.sampler)

    orders = [tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(22))
