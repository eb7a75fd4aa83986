"""Schedules on an optimizer: two clocks, options, RAdam's own updates, and state that is plain numbers."""

import copy
import json
import math
import pickle
from typing import Any

import pytest
import pytorch_warmup
import torch
from torch import nn

from hf_warmup import WarmupScheduler, get_schedule, schedules
from hf_warmup.lr_scheduler import scheduler as lr_scheduler
from hf_warmup.schedules.tables import DECAYS, WARMUPS


def adamw(*betas: float, lr: float = 1.0) -> torch.optim.AdamW:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "betas": (0.9, beta2)} for beta2 in betas or (0.8,)]
    return torch.optim.AdamW(groups, lr=lr)


def trace(
    optimizer: torch.optim.Optimizer, scheduler: WarmupScheduler, updates: int, *, per_update: int = 1
) -> list[float]:
    values = []
    for _ in range(updates):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for _ in range(per_update):
            scheduler.step()
    return values


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
        ({"beta2": 1.0}, "beta2 must lie strictly between 0 and 1"),
        ({"on_short_run": "ignore"}, "on_short_run must be one of warn, cap, raise"),
        ({"max_warmup_ratio": 0.0}, r"max_warmup_ratio must lie in \(0, 1\]"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        get_schedule(adamw(), **{"num_training_steps": 100, **options})


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
