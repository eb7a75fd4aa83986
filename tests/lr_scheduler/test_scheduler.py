"""Schedules on an optimizer: two clocks, options, and state that is plain numbers."""

import copy
import json
import math
import pickle
from typing import Any

import pytest
import torch
from stepping import adamw, trace
from torch import nn

from hf_warmup import get_schedule, schedules
from hf_warmup.lr_scheduler import scheduler as lr_scheduler
from hf_warmup.schedules.tables import DECAYS, WARMUPS


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_two_clocks_give_every_number_of_processes_the_same_curve(processes: int) -> None:
    optimizer = adamw(0.8)
    values = trace(optimizer, get_schedule(optimizer, 0, 32 * processes), 32, per_update=processes)
    assert values == pytest.approx([min(1, k / 10) * (1 - (k - 1) / 32) for k in range(1, 33)], rel=1e-12)
    assert [round(values[k - 1], 4) for k in (1, 2, 5, 10, 20, 32)] == [0.1, 0.1937, 0.4375, 0.7187, 0.4062, 0.0312]


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("warmup", ["untuned_exponential_warmup", "radam_warmup"])
def test_every_decay_is_the_same_under_a_scheduler_that_steps_once_per_process(warmup: str, decay: str) -> None:
    one, many = adamw(0.8), adamw(0.8)
    expected = trace(one, get_schedule(one, 0, 32, warmup=warmup, decay=decay), 32)
    assert len(set(expected)) > 10
    scheduler = get_schedule(many, 0, 96, warmup=warmup, decay=decay)
    assert trace(many, scheduler, 32, per_update=3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_tuned_warmup_is_counted_in_scheduler_steps_as_transformers_counts_it(processes: int) -> None:
    """Also where steps come without an update, as under a gradient scaler that skips some: nothing is guessed."""
    optimizer = adamw()
    scheduler = get_schedule(optimizer, 8 * processes, 40 * processes, warmup="linear_warmup")
    values = []
    for k in range(30):
        values.append(optimizer.param_groups[0]["lr"])
        if k not in (1, 2, 3):
            optimizer.step()
        for _ in range(processes):
            scheduler.step()
    for k, value in enumerate(values):
        steps = k * processes
        assert value == pytest.approx(min(1, (steps + 1) / (8 * processes)) * (1 - k / 40), rel=1e-12)


def test_an_update_that_was_not_made_does_not_advance_the_warmup() -> None:
    optimizer = adamw(0.8)
    scheduler = get_schedule(optimizer, 0, 1000, decay="constant")
    optimizer.step()
    scheduler.step()
    scheduler.step()  # a gradient scaler skipped optimizer.step()
    assert scheduler.multipliers() == [pytest.approx(0.2)]
    assert scheduler.updates == 1


def test_each_group_warms_up_by_its_own_beta2() -> None:
    optimizer = adamw(0.8, 0.9, 0.8, lr=2.0)
    scheduler = get_schedule(optimizer, 0, 100, decay="constant")
    assert scheduler.multipliers() == pytest.approx([0.1, 0.05, 0.1])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.1, 0.2])
    assert get_schedule(adamw(0.8, 0.9), 0, 100, beta2=0.5, decay="constant").multipliers() == [0.25, 0.25]


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("decay", DECAYS)
def test_every_combination_is_the_product_of_its_two_schedules(warmup: str, decay: str) -> None:
    tuned = not warmup.startswith(("untuned", "radam"))
    optimizer = adamw(0.8)
    values = trace(optimizer, get_schedule(optimizer, 10 if tuned else 0, 30, warmup=warmup, decay=decay), 30)
    length = {"period": 10} if tuned else {"beta2": 0.8}
    options: dict[str, Any] = {"num_training_steps": 30}
    if decay in ("constant", "inverse_sqrt"):
        options = {"timescale": 10} if decay == "inverse_sqrt" else {}
    expected = [WARMUPS[warmup](step, **length) * DECAYS[decay](step, **options) for step in range(30)]
    assert values == pytest.approx(expected, rel=1e-12)


def test_options_reach_their_schedules() -> None:
    def at(step: int, **options: Any) -> float:
        optimizer = adamw(0.8)
        return trace(optimizer, get_schedule(optimizer, 0, 20, **options), step + 1)[step]

    assert at(15, decay="cosine", min_lr_ratio=0.3) == pytest.approx(
        schedules.cosine_decay(15, num_training_steps=20, min_lr_ratio=0.3)
    )
    assert at(15, decay="polynomial", power=3.0) == pytest.approx(0.25**3)
    assert at(15, decay="wsd", decay_ratio=0.5) == pytest.approx(0.5)
    assert at(4, warmup="radam_warmup", threshold=4, decay="constant") > 0
    assert at(0, warmup="radam_warmup", start="first_rectified", decay="constant") > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"warmup": "cosine"}, "unknown warmup 'cosine'; choose one of linear_warmup"),
        ({"decay": "sqrt"}, "unknown decay 'sqrt'; choose one of inverse_sqrt"),
        ({"power": 2.0}, "'linear' takes no power; it is an option of polynomial"),
        ({"threshold": 4}, "takes no threshold; it is an option of radam_warmup"),
        ({"num_warmup_steps": 5}, "warmup_steps=0, or use linear_warmup"),
        ({"warmup": "linear_warmup"}, "linear_warmup needs its length.*untuned_linear_warmup needs none"),
        ({"num_training_steps": None}, "needs num_training_steps"),
        ({"num_training_steps": 0}, "num_training_steps must be positive and finite, got 0"),
        ({"num_training_steps": -1, "decay": "constant"}, "num_training_steps must be positive and finite, got -1"),
        ({"num_training_steps": math.inf}, "num_training_steps must be positive and finite, got inf"),
        ({"warmup": "linear_warmup", "num_warmup_steps": math.inf}, "num_warmup_steps must be positive, got inf"),
        ({"beta2": 1.0}, "beta2 must lie strictly between 0 and 1"),
        ({"on_short_run": "ignore"}, "on_short_run must be one of warn, cap, raise"),
        ({"max_warmup_ratio": 0.0}, r"max_warmup_ratio must lie in \(0, 1\]"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=expected):
        get_schedule(adamw(), **{"num_training_steps": 100, **options})
    assert not caplog.messages, "nothing is said of a run that cannot be"


def test_unknown_options_and_other_objects_are_type_errors() -> None:
    with pytest.raises(TypeError, match="warmup_period"):
        get_schedule(adamw(), 0, 100, warmup_period=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="expected a torch optimizer, got str"):
        get_schedule("adamw", 0, 100)  # type: ignore[arg-type]


def test_optimizers_without_betas_need_beta2() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(
        ValueError, match=r'no betas. Pass beta2=.*lr_scheduler_kwargs={"beta2": 0.999}.*linear_warmup'
    ):
        get_schedule(sgd, 0, 100)
    assert get_schedule(sgd, 0, 100, beta2=0.5).multipliers() == [0.25]


def test_radam_is_not_warmed_up_twice_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    radam = torch.optim.RAdam([nn.Parameter(torch.zeros(1))], betas=(0.9, 0.8))
    get_schedule(radam, 0, 100)
    assert "RAdam already warms up by its rectification" in caplog.text
    caplog.clear()
    get_schedule(radam, 5, 100, warmup="linear_warmup")
    assert caplog.text == ""


def test_a_scheduler_on_the_wrong_optimizer_says_that_it_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    optimizer, other = adamw(), adamw()
    scheduler = get_schedule(optimizer, 0, 100)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    for _ in range(9):
        other.step()
        scheduler.step()
    assert "not one update of AdamW" in caplog.text


def test_an_optimizer_without_hooks_is_counted_in_scheduler_steps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = adamw(0.8)
    del optimizer._optimizer_step_post_hooks
    scheduler = get_schedule(optimizer, 0, 100, decay="constant")
    optimizer._opt_called = True  # type: ignore[attr-defined]
    scheduler.step()
    assert scheduler.multipliers() == [pytest.approx(0.2)]
    assert caplog.text == ""
    monkeypatch.setattr(lr_scheduler, "num_processes", lambda: 2)
    get_schedule(optimizer, 0, 100)
    assert "AdamW has no step hooks" in caplog.text
    assert "2 times too short" in caplog.text


def test_state_is_plain_and_restores_both_clocks() -> None:
    optimizer = adamw(0.8, 0.9)
    scheduler = get_schedule(optimizer, 0, 60)
    trace(optimizer, scheduler, 7, per_update=2)
    state = json.loads(json.dumps(scheduler.state_dict()))
    resumed_optimizer = adamw(0.8, 0.9)
    resumed = get_schedule(resumed_optimizer, 0, 60)
    resumed.load_state_dict(state)
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert [g["lr"] for g in resumed_optimizer.param_groups] == [g["lr"] for g in optimizer.param_groups]
    rest = [trace(o, s, 20, per_update=2) for o, s in ((optimizer, scheduler), (resumed_optimizer, resumed))]
    assert rest[0] == rest[1]
    with pytest.raises(ValueError, match="2 param groups"):
        resumed.load_state_dict({"last_epoch": 3})


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"]
)
def test_copies_follow_their_own_optimizer(duplicate: Any) -> None:
    optimizer = adamw(0.8)
    scheduler = get_schedule(optimizer, 0, 60)
    trace(optimizer, scheduler, 3)
    twin = duplicate(scheduler)
    assert trace(twin.optimizer, twin, 5) == trace(optimizer, scheduler, 5)
    assert twin.updates == scheduler.updates == 8


def test_learning_rates_kept_in_tensors_are_written_in_place() -> None:
    lr = torch.tensor(1.0)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=lr, betas=(0.9, 0.8), capturable=False)
    get_schedule(optimizer, 0, 100)
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == pytest.approx(0.1)
    scheduler = get_schedule(optimizer, 0, 100)
    trace(optimizer, scheduler, 4)
    state = json.loads(json.dumps(scheduler.state_dict()))
    expected = float(lr)
    trace(optimizer, scheduler, 3)
    scheduler.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == expected == pytest.approx(0.5 * 0.96)


def test_step_takes_no_epoch() -> None:
    with pytest.raises(ValueError, match="takes no epoch"):
        get_schedule(adamw(), 0, 100).step(3)
