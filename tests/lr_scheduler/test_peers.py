"""Schedules beside torch's RAdam and pytorch_warmup: equal where they should be, and where they differ, by what."""

import math
from typing import Any

import pytest
import pytorch_warmup
import torch
from stepping import adamw
from torch import nn

from hf_warmup import get_schedule, schedules


def noisy_gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(50, dtype=torch.float64, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize(("eps", "rtol"), [(1e-30, 1e-9), (1e-8, 1e-6)])
@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.999])
def test_adam_under_radam_warmup_is_radam_from_the_sixth_update_on(
    optimizer_class: type[torch.optim.Adam], beta2: float, eps: float, rtol: float
) -> None:
    """Adam (no decay) under radam_warmup and torch.optim.RAdam, fed the same gradients.

    From t = 6 on every update is equal; with the usual eps but for its place, which is before bias correction in
    RAdam and after it in Adam. The first five must differ: RAdam moves by momentum SGD there, and the schedule
    stands still, as no multiplier of Adam's update can imitate that.
    """
    weights = [nn.Parameter(torch.zeros(50, dtype=torch.float64)) for _ in range(2)]
    settings: dict[str, Any] = {"lr": 0.01, "betas": (0.9, beta2), "eps": eps, "weight_decay": 0.0}
    adam = optimizer_class([weights[0]], **settings)
    radam = torch.optim.RAdam([weights[1]], **settings)
    scheduler = get_schedule(adam, 0, 5000, warmup="radam_warmup", decay="constant")
    for t, gradient in enumerate(noisy_gradients(50), start=1):
        moved = []
        for weight, optimizer in zip(weights, (adam, radam), strict=True):
            before = weight.detach().clone()
            weight.grad = gradient.clone()
            optimizer.step()
            moved.append(weight.detach() - before)
        scheduler.step()
        if t <= 5:
            assert torch.equal(moved[0], torch.zeros_like(moved[0]))
            assert moved[1].norm() > 0.01
        else:
            torch.testing.assert_close(moved[0], moved[1], rtol=rtol, atol=1e-15)


def test_decoupled_decay_is_warmed_up_too_where_radam_applies_it_in_full() -> None:
    """AdamW shrinks weights by lr x decay with the warmed-up lr; RAdam's rectification leaves its decay alone."""
    weights = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]
    settings: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.98), "weight_decay": 0.5}
    adamw_ = torch.optim.AdamW([weights[0]], **settings)
    radam = torch.optim.RAdam([weights[1]], **settings, decoupled_weight_decay=True)
    get_schedule(adamw_, 0, 500, warmup="radam_warmup", decay="constant", start="first_rectified")
    for weight, optimizer in zip(weights, (adamw_, radam), strict=True):
        weight.grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
    assert float(weights[0].detach()) == pytest.approx(1 - 0.05 * 0.1155232116, rel=1e-9)
    assert float(weights[1].detach()) == pytest.approx(1 - 0.05, rel=1e-12)


@pytest.mark.parametrize("beta2", [0.75, 0.875, 0.96875])
def test_parity_with_pytorch_warmup_where_its_periods_are_whole(beta2: float) -> None:
    for theirs, ours in (
        (pytorch_warmup.UntunedLinearWarmup, schedules.untuned_linear_warmup),
        (pytorch_warmup.UntunedExponentialWarmup, schedules.untuned_exponential_warmup),
    ):
        optimizer = adamw(beta2)
        warmup = theirs(optimizer)
        for step in range(100):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(ours(step, beta2=beta2), rel=1e-9)
            with warmup.dampening():
                pass


def test_pytorch_warmup_differs_at_beta2_999_where_it_truncates_its_period() -> None:
    optimizer = adamw(0.999)
    pytorch_warmup.UntunedLinearWarmup(optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 1999, rel=1e-12)
    assert schedules.untuned_linear_warmup(0, beta2=0.999) == pytest.approx(1 / 2000, rel=1e-12)
    optimizer = adamw(0.999)
    pytorch_warmup.UntunedExponentialWarmup(optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(-math.expm1(-1 / 999), rel=1e-12)
    assert schedules.untuned_exponential_warmup(0, beta2=0.999) == pytest.approx(-math.expm1(-1 / 1000), rel=1e-12)
    optimizer = adamw(0.999)
    pytorch_warmup.RAdamWarmup(optimizer)
    # It begins with r_5 (threshold 4) at once; ours stands still by default, and can be asked to do the same.
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0173115032, abs=1e-10)
    assert schedules.radam_warmup(0, beta2=0.999) == 0.0


@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.999])
def test_pytorch_warmup_shifts_the_rectification_where_ours_holds_its_first_value(beta2: float) -> None:
    optimizer = adamw(beta2)
    theirs = pytorch_warmup.RAdamWarmup(optimizer)
    # Theirs is shifted as a whole, r_(t+4); ours holds r_5 until update 5 and is RAdam's own value from there on.
    for step in range(200):
        shifted = schedules.radam_warmup(step + 4, beta2=beta2, threshold=4)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(shifted, rel=1e-9)
        with theirs.dampening():
            pass
    ours = [schedules.radam_warmup(s, beta2=beta2, threshold=4, start="first_rectified") for s in range(6)]
    assert ours[:5] == [ours[0]] * 5
    assert ours[5] > ours[4]
