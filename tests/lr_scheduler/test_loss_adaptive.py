"""Loss-adaptive warmup: the formula, what disturbs losses, every loop, one process and two."""

import copy
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_traces import SCRIPTS, start
from torch import nn
from transformers import get_scheduler

from hf_warmup import ConfigError, LossAdaptiveScheduler, get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.loss_adaptive import loss_multiplier


def make(**options: Any) -> tuple[torch.optim.Optimizer, LossAdaptiveScheduler]:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"decay": "constant", "handover_updates": math.inf, "smoothing": 0.0, **options}
    scheduler = get_loss_adaptive_schedule(optimizer, 0, 100, **options)
    assert isinstance(scheduler, LossAdaptiveScheduler)
    return optimizer, scheduler


def follow(losses: list[float], **options: Any) -> list[float]:
    """Multiplier of each update, of which `losses` are the losses."""
    optimizer, scheduler = make(**options)
    found = []
    for loss in losses:
        found += scheduler.multipliers()
        optimizer.step()
        scheduler.step(loss=loss)
    return found + scheduler.multipliers()


def expected(losses: list[float], *, kappa: float = 9.0, smoothing: float = 0.9, period: float = 40) -> list[float]:
    """The rule written a second time, for finite losses."""
    smoothed, lowest, found = losses[0], losses[0], [1 / (1 + kappa)]
    for k, loss in enumerate(losses):
        smoothed = smoothing * smoothed + (1 - smoothing) * min(loss, 2 * smoothed) if k else loss
        lowest = min(lowest, smoothed)
        found.append(1 / (1 + kappa * max(0, 1 - (k + 1) / period) * lowest / losses[0]))
    return found


def test_formula() -> None:
    assert follow([4.0, 2.0, 1.0]) == pytest.approx([0.1, 0.1, 1 / 5.5, 1 / 3.25], rel=1e-12)
    assert follow([5.0, 3.0], f_star=1.0, rho=0.5, kappa=3.0) == pytest.approx([1 / 4, 1 / 4, 1 / (1 + 3 * 0.5**0.5)])
    assert follow([4.0, 2.0], initial_multiplier=1.0) == [1.0, 1.0, 1.0]


def test_h0_h1_is_the_case_of_exponent_one() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        get_scheduler(name, optimizer, 0, 100, scheduler_specific_kwargs=options)
        for name, options in (("h0_h1_warmup", {}), ("loss_adaptive_warmup", {"rho": 1.0}))
    ]
    for loss in (4.0, 2.0, 1.0):
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step(loss=loss)
        assert schedulers[0].multipliers() == schedulers[1].multipliers()
    with pytest.raises(ValueError, match="has rho = 1"):
        get_scheduler("h0_h1_warmup", optimizer, 0, 100, scheduler_specific_kwargs={"rho": 0.5})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_no_numbers_change_nothing(bad: float) -> None:
    losses = [4.0, 3.0, 2.0, 1.5]
    disturbed = follow([*losses[:2], bad, *losses[2:]])
    calm = follow(losses)
    assert disturbed == [*calm[:3], calm[2], *calm[3:]]


@pytest.mark.parametrize("first", [0.0, -0.3, 1.0])
def test_a_start_at_the_lowest_loss_goes_by_time_alone(first: float, caplog: pytest.LogCaptureFixture) -> None:
    """As in reinforcement learning with advantages of mean 0, whose losses say nothing about a gap."""
    f_star = max(first, 0.0)
    found = follow([first, 1e-9, -0.02, math.nan, 2.5, 0.01], f_star=f_star, handover_updates=8)
    assert found == pytest.approx([1 / (1 + 9 * (1 - k / 8)) for k in range(7)], rel=1e-12)
    assert caplog.text.count("it goes by time alone") == 1
    # The mark survives a checkpoint.
    _, scheduler = make(f_star=f_star, handover_updates=8)
    scheduler.load_state_dict(
        {**scheduler.state_dict(), "loss": {**scheduler.state_dict()["loss"], "initial_gap": 0.0}}
    )
    assert scheduler.multipliers() == [0.1]


def test_gaps_that_are_not_positive_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    for bad in (1.0, 0.25, -7.0):
        assert follow([4.0, 3.0, bad, 2.0], f_star=1.0) == follow([4.0, 3.0, math.nan, 2.0], f_star=1.0)
    assert caplog.text == ""


def test_a_spike_delays_and_does_not_undo() -> None:
    calm, spiked = (follow([4.0, 3.0, x, 2.0, 2.0, 2.0, 2.0], smoothing=0.5) for x in (2.5, 1e6))
    assert all(b >= a for a, b in zip(spiked, spiked[1:], strict=False))
    assert spiked[-1] > 0.6 * calm[-1]
    assert follow([4.0, 2.0, 3.0], monotone=False)[-1] == pytest.approx(1 / (1 + 9 * 0.75))


@given(st.lists(st.floats(0, 1e6) | st.just(math.nan), min_size=1, max_size=30), st.floats(0.1, 3), st.floats(0, 0.99))
def test_multipliers_rise_within_their_range(losses: list[float], rho: float, smoothing: float) -> None:
    found = follow(losses, rho=rho, smoothing=smoothing)
    assert all(0 < a <= b <= 1 for a, b in zip(found, found[1:], strict=False))


def test_it_is_over_in_finite_time_and_composes_with_decays() -> None:
    never_falling = follow([4.0] * 30, handover_updates=20)
    assert never_falling[:20] == pytest.approx([1 / (1 + 9 * (1 - k / 20)) for k in range(20)])
    assert never_falling[20:] == [1.0] * 11
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, 0.9))
    scheduler = get_scheduler("cosine_with_loss_adaptive_warmup", optimizer, 0, 40)
    # 2 / (1 - beta2) = 20 updates would be the untuned rule's; a quarter of the run is less.
    for k in range(20):
        warmup = 1 / (1 + 9 * max(0, 1 - k / 10))
        assert scheduler.multipliers()[0] == pytest.approx(warmup * (1 + math.cos(math.pi * k / 40)) / 2)
        optimizer.step()
        scheduler.step(loss=3.0)


def test_state_goes_on_exactly() -> None:
    losses = [4.0 * 0.9**k for k in range(20)]
    whole = follow(losses, smoothing=0.8)
    optimizer, scheduler = make(smoothing=0.8)
    for loss in losses[:8]:
        optimizer.step()
        scheduler.step(loss=loss)
    state = json.loads(json.dumps(scheduler.state_dict()))
    optimizer, scheduler = make(smoothing=0.8)
    scheduler.load_state_dict(state)
    assert scheduler.get_last_lr() == whole[8:9]
    for k, loss in enumerate(losses[8:], start=8):
        assert scheduler.multipliers() == whole[k : k + 1]
        optimizer.step()
        scheduler.step(loss=loss)
    assert copy.deepcopy(scheduler).state_dict() == scheduler.state_dict()
    with pytest.raises(ValueError, match="has no losses"):
        scheduler.load_state_dict({"updates": 1})


def test_without_losses_it_says_so() -> None:
    optimizer, scheduler = make()
    for _ in range(9):
        optimizer.step()
        scheduler.step()
    optimizer.step()
    with pytest.raises(ConfigError, match=r"10 updates and no loss.*scheduler.step\(loss=loss\)"):
        scheduler.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0}, "rho must be positive"),
        ({"rho": math.inf}, "rho must be positive and finite"),
        ({"f_star": math.nan}, "f_star must be finite, got nan"),
        ({"f_star": -math.inf}, "f_star must be finite, got -inf"),
        ({"monotone": "false"}, "monotone must be true or false, got 'false'"),
        ({"initial_multiplier": 0}, r"initial_multiplier must be in \(0, 1\]"),
        ({"kappa": -1}, "kappa must be at least 0"),
        ({"kappa": math.inf}, "kappa must be at least 0 and finite"),
        ({"smoothing": 1}, "smoothing must be in"),
        ({"handover_updates": 0}, "handover_updates must be positive"),
        ({"decay": "stairs"}, "unknown decay"),
        ({"num_warmup_steps": 5}, "takes no length"),
        ({"num_training_steps": None, "decay": "linear"}, "needs num_training_steps"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=message):
        get_loss_adaptive_schedule(optimizer, **{"num_training_steps": 100, **options})
    with pytest.raises(ValueError, match="no betas"):
        get_loss_adaptive_schedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), decay="constant")


def test_multiplier_values() -> None:
    assert loss_multiplier(0.25, kappa=4.0, rho=0.5) == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    found = {}
    for size in (1, 2):
        folder = tmp_path_factory.mktemp("traces")
        start(size, str(SCRIPTS / "loss_traces.py"), str(folder))
        found[size] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
        assert all(rank["world_size"] == size for rank in found[size])
    return found


def test_plain_loops_have_the_same_rates_everywhere(traces: dict[int, list[Any]]) -> None:
    losses = [4.0 * 0.8**k for k in range(20) if k != 7]
    rates = expected(losses, smoothing=0.5, period=400)
    # Update 7 has no loss and leaves the gap as it was; only time goes on.
    gaps = [(1 / rate - 1) / (9 * (1 - k / 400)) for k, rate in enumerate(rates)]
    gaps = [*gaps[:8], gaps[7], *gaps[8:19]]
    rates = [1 / (1 + 9 * (1 - k / 400) * gap) for k, gap in enumerate(gaps)]
    for ranks in traces.values():
        for rank in ranks:
            for accumulation in (1, 3):
                for prepared in (False, True):
                    assert rank[f"accelerate_{accumulation}_{prepared}"] == pytest.approx(rates, rel=1e-9)


def test_trainers_follow_the_losses_that_they_log(traces: dict[int, list[Any]]) -> None:
    for ranks in traces.values():
        for accumulation in (1, 3):
            found = [rank[f"trainer_{accumulation}"] for rank in ranks]
            assert all(one["rates"] == found[0]["rates"] for one in found), "all ranks have the same rate"
            rates = expected(found[0]["losses"], period=400)[:20]
            assert [rate / 0.1 for rate in found[0]["rates"]] == pytest.approx(rates, rel=1e-3)
            assert len(set(rates)) > 8, "the losses are at work"
        resumed, whole = ranks[0]["trainer_resumed"], ranks[0]["trainer_1"]
        assert resumed["rates"] == whole["rates"][8:]


def test_own_loop_follows_its_losses(traces: dict[int, list[Any]]) -> None:
    for ranks in traces.values():
        for rank in ranks:
            multipliers, losses = zip(*rank["own"], strict=True)
            assert list(multipliers) == pytest.approx(expected(list(losses))[:20], rel=1e-9)
    # Four examples an update on either: the same losses up to rounding, so the same rates.
    one, two = (traces[size][0]["own"] for size in (1, 2))
    assert [m for m, _ in one] == pytest.approx([m for m, _ in two], rel=1e-5)


def test_probe_sees_the_same_on_all_processes(traces: dict[int, list[Any]]) -> None:
    one, (first, second) = traces[1][0]["probe"], (rank["probe"] for rank in traces[2])
    assert first == second
    assert [record["step"] for record in one] == [1, 6, 11, 16]
    for name in ("loss", "smoothness", "update_norm"):
        assert [r[name] for r in one] == pytest.approx([r[name] for r in first], rel=1e-3)
    losses = [loss for _, loss in traces[2][0]["own"]]
    assert [record["loss"] for record in first] == pytest.approx(losses[::5], rel=1e-5)
