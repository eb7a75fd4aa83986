"""Schedules beside others and after an interruption: later parts, torch's own warning, another beta2, old states."""

import copy
import json
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from hf_warmup import WarmupScheduler, get_loss_adaptive_schedule, get_schedule


def adam(beta2: float = 0.75, groups: int = 1) -> torch.optim.Adam:
    each = [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(groups)]
    return torch.optim.Adam(each, lr=1.0, betas=(0.9, beta2))


def follow(optimizer: torch.optim.Optimizer, scheduler: Any, updates: int) -> list[float]:
    rates = []
    for _ in range(updates):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if hasattr(scheduler, "observe"):
            scheduler.observe(2.0)
        scheduler.step()
    return rates


def ours(optimizer: torch.optim.Optimizer) -> WarmupScheduler:
    """A warmup of 8 updates."""
    return get_schedule(optimizer, num_training_steps=60, decay="constant")


def reference(optimizer: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8))


@pytest.mark.parametrize("milestone", [1, 3, 25])
def test_as_a_later_part_the_warmup_begins_with_its_part(milestone: int) -> None:
    found = []
    for make in (ours, reference):
        optimizer = adam()
        parts: list[LRScheduler] = [LinearLR(optimizer, 0.5, total_iters=5), make(optimizer)]
        found.append(follow(optimizer, SequentialLR(optimizer, parts, [milestone]), milestone + 12))
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0][milestone] == pytest.approx(1 / 8)


@pytest.mark.filterwarnings("ignore:Detected call")  # torch's own, of every part of a part
def test_parts_of_parts_and_first_parts() -> None:
    found = []
    for make in (ours, reference):
        optimizer = adam()
        inner = SequentialLR(optimizer, [make(optimizer), ConstantLR(optimizer, 0.5, 100)], [5])
        outer = SequentialLR(optimizer, [inner, make(optimizer), make(optimizer)], [9, 14])
        found.append(follow(optimizer, outer, 30))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_chained_and_switched_by_hand() -> None:
    found = []
    for make in (ours, reference):
        optimizer = adam()
        chained = ChainedScheduler([make(optimizer), ConstantLR(optimizer, 0.5, 4)])
        rates = follow(optimizer, chained, 12)
        optimizer = adam()
        first, second = LinearLR(optimizer, 0.25, total_iters=50), make(optimizer)
        rates += follow(optimizer, first, 10)[1:] + follow(optimizer, second, 6)
        found.append(rates)
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_a_scheduler_stepped_once_an_epoch_still_counts_every_update() -> None:
    optimizer = adam(0.96)
    scheduler = ours(optimizer)
    for _ in range(2):
        for _ in range(10):
            optimizer.step()
        scheduler.step()
    assert scheduler.multipliers() == [pytest.approx(21 / 50)]


def test_a_sequence_resumes_in_each_of_its_parts() -> None:
    def build() -> tuple[torch.optim.Optimizer, SequentialLR]:
        optimizer = adam()
        parts: list[LRScheduler] = [ours(optimizer), ConstantLR(optimizer, 0.3, 6), ours(optimizer)]
        return optimizer, SequentialLR(optimizer, parts, [4, 10])

    whole = follow(*build(), 20)
    for stop in (2, 4, 7, 10, 13):
        optimizer, scheduler = build()
        follow(optimizer, scheduler, stop)
        states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
        optimizer, scheduler = build()
        optimizer.load_state_dict(states[0])
        scheduler.load_state_dict(states[1])
        assert follow(optimizer, scheduler, 20 - stop) == whole[stop:], stop


@pytest.mark.parametrize("make", [ours, lambda o: get_loss_adaptive_schedule(o, num_training_steps=60)])
def test_the_wrong_order_of_steps_is_warned_of_once(make: Any) -> None:
    optimizer = adam()
    scheduler = make(optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            scheduler.step()
            optimizer.step()
    assert [str(warning.message).split(".")[0] for warning in caught] == ["Detected call of `lr_scheduler"]


@pytest.mark.parametrize("scheduler_first", [False, True])
@pytest.mark.parametrize("make", ["untuned_linear_warmup", "radam_warmup", "loss_adaptive"])
def test_the_warmup_follows_the_beta2_that_the_optimizer_loads(
    make: str, scheduler_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def build(beta2: float) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = adam(beta2, groups=2)
        if make == "loss_adaptive":
            return optimizer, get_loss_adaptive_schedule(optimizer, num_training_steps=300, decay="inverse_sqrt")
        return optimizer, get_schedule(optimizer, num_training_steps=300, warmup=make, decay="inverse_sqrt")

    optimizer, scheduler = build(0.9)
    follow(optimizer, scheduler, 7)
    states = optimizer.state_dict(), json.loads(json.dumps(scheduler.state_dict()))
    expected = follow(optimizer, scheduler, 30)
    other, resumed = build(0.97)
    if scheduler_first:
        resumed.load_state_dict(states[1])
    other.load_state_dict(states[0])
    if not scheduler_first:
        resumed.load_state_dict(states[1])
    assert follow(other, resumed, 30) == expected
    assert caplog.text.count("another beta2 than it was built with") == 1


def test_a_beta2_of_ones_own_stays(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = adam(0.9)
    scheduler = get_schedule(optimizer, num_training_steps=300, beta2=0.5, decay="constant")
    optimizer.load_state_dict(adam(0.97).state_dict())
    assert scheduler.multipliers() == [0.25]
    assert caplog.text == ""


def test_states_of_earlier_versions() -> None:
    optimizer = adam()
    scheduler = ours(optimizer)
    follow(optimizer, scheduler, 3)
    old = {key: value for key, value in scheduler.state_dict().items() if key != "governs"}
    optimizer = adam()
    scheduler = ours(optimizer)
    scheduler.load_state_dict(old)
    assert follow(optimizer, scheduler, 2) == [0.5, 0.625]
    with pytest.raises(ValueError, match="pickled by an earlier version"):
        scheduler.__setstate__({**scheduler.__getstate__(), "_warmup_in_scheduler_steps": True})
