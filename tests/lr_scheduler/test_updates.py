"""Updates are counted as passes over the param groups, whatever a wrapper makes of them. DeepSpeed is imitated."""

import gc
import weakref

import pytest
import torch
from torch import nn

from hf_warmup import get_loss_adaptive_schedule, get_schedule
from hf_warmup.lr_scheduler.updates import UpdateCounter


def grouped(*sizes: int, beta2: float = 0.875) -> torch.optim.AdamW:
    """One param group per size, of so many parameters."""
    groups = [{"params": [nn.Parameter(torch.ones(3)) for _ in range(size)]} for size in sizes]
    return torch.optim.AdamW(groups, lr=2.0, betas=(0.9, beta2))


def zero_2(optimizer: torch.optim.Optimizer, gradient: float = 1.0) -> None:
    """ZeRO 1 and 2: a call for each group, with the other groups taken away."""
    groups = optimizer.param_groups
    for group in groups:
        optimizer.param_groups = [group]
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    optimizer.param_groups = groups


class Zero3:
    """ZeRO 3: parts of its own in place of the parameters, a call for each, and a first pass without gradients."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.parts = [
            (group, [nn.Parameter(torch.ones(3)) for _ in group["params"]]) for group in optimizer.param_groups
        ]
        for group, _ in self.parts:
            group["params"] = []
        self(optimizer, 0.0)

    def __call__(self, optimizer: torch.optim.Optimizer, gradient: float = 1.0) -> None:
        for group, parts in self.parts:
            for part in parts:
                part.grad = torch.full_like(part, gradient)
                group["params"] = [part]
                optimizer.step()
                group["params"] = []


def whole(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


@pytest.mark.parametrize("way", ["whole", "zero 2", "zero 3"])
@pytest.mark.parametrize("sizes", [(1,), (1, 1), (3,), (2, 1, 4)])
@pytest.mark.parametrize("steps_per_update", [1, 2])
def test_an_update_is_a_pass_over_all_groups(way: str, sizes: tuple[int, ...], steps_per_update: int) -> None:
    optimizer = grouped(*sizes)
    scheduler = get_schedule(optimizer, num_training_steps=100, decay="constant")
    update = Zero3(optimizer) if way == "zero 3" else {"whole": whole, "zero 2": zero_2}[way]
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        update(optimizer)
        for _ in range(steps_per_update):
            scheduler.step()
    assert rates == pytest.approx([2.0 * k / 16 for k in range(1, 6)], rel=1e-12)
    assert scheduler.updates == 5


@pytest.mark.parametrize("way", ["zero 2", "zero 3"])
def test_passes_are_told_apart_without_the_scheduler(way: str) -> None:
    optimizer = grouped(2, 3)
    counter = UpdateCounter(optimizer)
    update = Zero3(optimizer) if way == "zero 3" else zero_2
    for _ in range(4):
        update(optimizer)
    assert counter.count == 4


def test_groups_stepped_in_turn_between_scheduler_steps_are_updates_each() -> None:
    optimizer = grouped(1, 1)
    scheduler = get_schedule(optimizer, num_training_steps=100, decay="constant")
    groups = optimizer.param_groups
    for k in range(6):
        optimizer.param_groups = [groups[k % 2]]
        optimizer.step()
        optimizer.param_groups = groups
        scheduler.step()
    assert scheduler.updates == 6


@pytest.mark.parametrize("way", ["zero 2", "zero 3"])
def test_loss_adaptive_warmup_counts_the_same(way: str) -> None:
    rates = []
    for sharded in (False, True):
        optimizer = grouped(2, 1)
        scheduler = get_loss_adaptive_schedule(optimizer, num_training_steps=40)
        update = whole if not sharded else Zero3(optimizer) if way == "zero 3" else zero_2
        for loss in (4.0, 3.0, 2.5, 1.0, 0.5):
            update(optimizer)
            scheduler.step(loss=loss)  # type: ignore[call-arg]
            rates.append(optimizer.param_groups[1]["lr"])
    assert rates[:5] == rates[5:]


def test_an_overflow_inside_a_fused_optimizer_is_no_update() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(3))], lr=1.0, betas=(0.9, 0.8), fused=True)
    scheduler = get_schedule(optimizer, num_training_steps=100, decay="constant")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for gradient in (1.0, float("inf"), 1.0):
        [parameter] = optimizer.param_groups[0]["params"]
        scaler.scale((parameter * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scheduler.step()
    assert scheduler.updates == 2


def test_hooks_end_with_their_scheduler() -> None:
    optimizer = grouped(1)
    scheduler = get_schedule(optimizer, num_training_steps=100)
    gone = weakref.ref(scheduler)
    assert (len(optimizer._optimizer_step_post_hooks), len(optimizer._optimizer_load_state_dict_post_hooks)) == (1, 1)
    del scheduler
    gc.collect()
    assert gone() is None
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_load_state_dict_post_hooks
