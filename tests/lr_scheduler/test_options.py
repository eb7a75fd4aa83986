"""What a person passes, and what they are told: options, optimizers that do not fit, runs that are too short."""

import logging
import re
from functools import partial
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from hf_warmup import get_loss_adaptive_schedule, get_schedule, linear_warmup, schedules
from hf_warmup.lr_scheduler import notices, process_group, short_runs
from hf_warmup.lr_scheduler.short_runs import fit_to_run, is_too_short, shortfall


def adamw(beta2: float = 0.8) -> torch.optim.AdamW:
    return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, beta2))


@pytest.mark.parametrize("text", ["min_lr_ratio: 5e-2", "beta2: 9e-1", "max_warmup_ratio: 1e-1", "power: 2e0"])
def test_a_number_that_yaml_reads_as_text_is_named(text: str) -> None:
    name, value = text.split(": ")
    with pytest.raises(
        ValueError, match=f"^{name} must be a number, got '{value}', which is a text; .*write "
    ) as info:
        get_schedule(adamw(), 0, 100, **yaml.safe_load(text))
    advised = yaml.safe_load(str(info.value).split("write ")[1].removesuffix("."))
    assert advised == float(value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rho": "1e0"}, "^rho must be a number, got '1e0'"),
        ({"f_star": "low"}, "^f_star must be a number, got 'low'.$"),
        ({"kappa": True}, "^kappa must be a number, got True.$"),
        ({"handover_updates": "1e-8"}, r"write 1\.0e-08.$"),
    ],
)
def test_loss_adaptive_numbers_too(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        get_loss_adaptive_schedule(adamw(), 0, 100, **options)


def test_a_length_may_be_a_number_with_a_point(caplog: pytest.LogCaptureFixture) -> None:
    # As scripts have that divide it by something.
    found = get_schedule(adamw(0.99), 0, 50.0)  # type: ignore[arg-type]
    assert "peaks at" in caplog.text
    assert found.get_last_lr() == get_schedule(adamw(0.99), 0, 50).get_last_lr()


def test_beta2_of_a_group_without_betas() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizer.param_groups[0]["beta2"] = 0.75
    assert get_schedule(optimizer, 0, 100, decay="constant").multipliers() == [0.125]
    optimizer.param_groups[0]["betas"] = (0.9, None)
    with pytest.raises(ValueError, match="no betas"):
        get_schedule(optimizer, 0, 100)


class Lion(torch.optim.AdamW):
    """Stands for any of the Lions."""


class PagedLion8bit(Lion):
    """Another."""


@pytest.mark.parametrize("kind", [Lion, PagedLion8bit])
def test_lion_has_another_beta2(kind: type[Lion], caplog: pytest.LogCaptureFixture) -> None:
    optimizer = kind([nn.Parameter(torch.zeros(1))], betas=(0.9, 0.99))
    get_schedule(optimizer, 0, 1000)
    assert f"hf_warmup: {kind.__name__}'s beta2 is the decay of its momentum" in caplog.text
    caplog.clear()
    get_loss_adaptive_schedule(optimizer, 0, 1000)
    assert "beta2 is the decay of its momentum" in caplog.text
    caplog.clear()
    get_schedule(optimizer, 0, 1000, beta2=0.98)
    get_schedule(optimizer, 5, 1000, warmup="linear_warmup")
    get_loss_adaptive_schedule(optimizer, 0, 1000, handover_updates=50)
    assert caplog.text == ""


@pytest.mark.parametrize("beta2", [0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999])
def test_a_run_as_long_as_the_warmup_is_not_short(beta2: float, caplog: pytest.LogCaptureFixture) -> None:
    length = round(2 / (1 - beta2))
    if length == pytest.approx(2 / (1 - beta2), rel=1e-9):
        for mode in ("warn", "cap", "raise"):
            found = get_schedule(adamw(beta2), 0, length, on_short_run=mode, decay="constant").multipliers()
            assert found == [pytest.approx((1 - beta2) / 2, rel=1e-12)]
        assert caplog.text == ""
    assert is_too_short(length - 1, beta2)


def test_the_true_peak_is_said_with_what_can_be_pasted(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = get_schedule(adamw(0.999), num_training_steps=400)
    peak = 100 * max((k + 1) / 2000 * (1 - k / 400) for k in range(400))
    assert (
        f"the run has 400 updates: with its decay the learning rate peaks at {peak:.3g} % of its value" in caplog.text
    )
    assert "hf_warmup: untuned_linear_warmup with beta2=0.999 takes 2000 updates" in caplog.text
    assert (
        'A beta2 of 0.95 would fit (a warmup of 40 updates); lr_scheduler_kwargs={"on_short_run": "cap"}'
        in caplog.text
    )
    assert scheduler.multipliers() == [pytest.approx(0.0005)]
    # Three epochs of RTE at batch 32.
    assert "peaks at 2.95 %" in shortfall("untuned_linear_warmup", 0.999, 234, scheduler_decay(234))
    [pasted] = re.findall(r"lr_scheduler_kwargs=(\{.*?\})", caplog.text)
    capped = get_schedule(adamw(0.999), num_training_steps=400, **yaml.safe_load(pasted))
    assert capped.multipliers() == [pytest.approx(1 / 40)]
    assert 'it is shortened to 40 updates, as on_short_run="cap" asks.' in caplog.text
    assert caplog.text.count("peaks at") == 1, "a warmup that is shortened does not end so"


def scheduler_decay(length: int) -> Any:
    return lambda step: 1 - step / length


def test_a_beta2_that_nobody_should_use_is_not_advised() -> None:
    for length in (25, 120, 199):
        with pytest.raises(
            ValueError, match=r"The run is too short for an untuned warmup: lr_scheduler_kwargs="
        ) as info:
            get_schedule(adamw(0.999), 0, length, on_short_run="raise")
        assert "A beta2 of" not in str(info.value)
    for warmup in ("untuned_exponential_warmup", "radam_warmup"):
        assert get_schedule(adamw(0.999), 0, 3, warmup=warmup, on_short_run="cap").multipliers()[0] >= 0


def test_notices_come_once_and_from_one_process(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        get_schedule(adamw(0.999), 0, 300)
    assert caplog.text.count("takes 2000 updates") == 1
    get_schedule(adamw(0.999), 0, 301)
    assert caplog.text.count("takes 2000 updates") == 2
    notices.forget()
    caplog.clear()
    monkeypatch.setenv("RANK", "3")
    with caplog.at_level(logging.WARNING):
        get_schedule(adamw(0.999), 0, 300)
    assert caplog.text == ""


def test_on_several_processes_both_lengths_are_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process_group.num_processes() == 1
    monkeypatch.setattr(short_runs, "num_processes", lambda: 4)
    fit_to_run("untuned_linear_warmup", 0.99, 80, on_short_run="warn", max_warmup_ratio=0.1)
    assert "the run has 80 updates (20 if Accelerate prepares the scheduler)" in caplog.text


def test_functions_of_the_step_are_warmups_and_decays() -> None:
    optimizer = adamw()
    warmup, decay = partial(linear_warmup, period=4), partial(schedules.cosine_decay, num_training_steps=8)
    own = get_schedule(optimizer, 0, 8, warmup=warmup, decay=decay)
    named = get_schedule(adamw(), 4, 8, warmup="linear_warmup", decay="cosine")
    curves: tuple[list[float], list[float]] = ([], [])
    for _ in range(8):
        for scheduler, curve in zip((own, named), curves, strict=True):
            curve.extend(scheduler.multipliers())
            scheduler.optimizer.step()
            scheduler.step()
    assert curves[0] == curves[1] != sorted(curves[0])
    mixed = get_schedule(adamw(), warmup="untuned_linear_warmup", decay=lambda step: 0.5)
    assert mixed.multipliers() == [pytest.approx(0.05)]
    adaptive = get_loss_adaptive_schedule(adamw(), decay=lambda step: 0.5, handover_updates=4)
    assert adaptive.get_last_lr() == [pytest.approx(0.05)]


def test_a_warmup_that_is_a_function_counts_updates_and_a_decay_scheduler_steps() -> None:
    optimizer = adamw()
    scheduler = get_schedule(optimizer, warmup=lambda step: 1.0 + step, decay=lambda step: 10.0**step)
    optimizer.step()
    scheduler.step()
    scheduler.step()
    assert scheduler.multipliers() == [200.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"warmup": schedules.untuned_linear_warmup},
            "untuned_linear_warmup cannot be called with a step alone .*beta2",
        ),
        ({"decay": lambda step: None}, "decay=.*<lambda> must return a multiplier, .*at step 0 it is None"),
        ({"decay": lambda step: -1.0}, "must return a multiplier, a number >= 0; at step 0 it is -1.0"),
        ({"warmup": lambda step: 1.0, "num_warmup_steps": 3}, "a function knows its length, but num_warmup_steps=3"),
        (
            {"warmup": lambda step: 1.0, "beta2": 0.9},
            "<lambda> is a function of the step alone, so beta2 would change",
        ),
        ({"decay": lambda step: 1.0, "power": 2}, "<lambda> is a function of the step alone, so power would change"),
        ({"warmup": lambda step: 1.0, "decay": "inverse_sqrt"}, "inverse_sqrt takes the warmup's length"),
    ],
)
def test_functions_that_are_no_schedules(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        get_schedule(adamw(), num_training_steps=100, **options)
