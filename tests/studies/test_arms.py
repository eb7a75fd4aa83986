"""Arms: any optimizer and any schedule by name, and each mistake in one line."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import get_scheduler

from hf_warmup.errors import ConfigError
from hf_warmup.studies.comparison.arms import check_arms, make_optimizer, make_scheduler
from hf_warmup.studies.comparison.config import ArmConfig, TrainingConfig, load_study
from hf_warmup.studies.comparison.plan import check_warmups_fit
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.runner import run_study


TRAINING = TrainingConfig(num_training_steps=20, batch_size=4, beta2=0.9, weight_decay=0.3)
NADAM: dict[str, Any] = {"optimizer": "torch.optim.NAdam", "optimizer_kwargs": {"betas": [0.8, 0.75]}}


def arm(**keys: Any) -> ArmConfig:
    return ArmConfig(name="a", **{"optimizer": "adamw", **keys})


def test_an_optimizer_by_import_path_gets_what_arms_share_and_its_own() -> None:
    made = make_optimizer(nn.Linear(2, 2), TRAINING, arm(**NADAM), 0.1)
    assert type(made) is torch.optim.NAdam
    kept = {"lr": 0.1, "betas": (0.8, 0.75), "eps": 1e-8, "foreach": True, "decoupled_weight_decay": True}
    assert all({key: group[key] for key in kept} == kept for group in made.param_groups)
    assert [group["weight_decay"] for group in made.param_groups] == [0.3, 0.0]
    other = make_optimizer(nn.Linear(2, 2), TRAINING, arm(optimizer_kwargs={"weight_decay": 0.7}), 0.1)
    assert [group["weight_decay"] for group in other.param_groups] == [0.7, 0.0]
    rprop = make_optimizer(nn.Linear(2, 2), TRAINING, arm(optimizer="torch.optim.Rprop"), 0.1)
    assert "weight_decay" not in rprop.param_groups[0]


def test_an_untuned_warmup_follows_the_beta2_of_its_arm() -> None:
    own = arm(**NADAM, warmup="untuned_linear_warmup")
    scheduler = make_scheduler(make_optimizer(nn.Linear(2, 2), TRAINING, own, 0.1), TRAINING, own, 20)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.1 / 8, rel=1e-12)
    check_warmups_fit([own], TRAINING.beta2, 8, on_short_run="raise")
    with pytest.raises(ConfigError, match="untuned_linear_warmup with beta2=0.75 takes 8 updates, but the run has 7"):
        check_warmups_fit([own], TRAINING.beta2, 7, on_short_run="raise")


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ({"schedule": "cosine_with_restarts", "schedule_kwargs": {"num_cycles": 2}, "num_warmup_steps": 3}, {}),
        ({"schedule": "cosine_with_untuned_linear_warmup"}, {"on_short_run": "raise"}),
        ({"schedule": "inverse_sqrt", "num_warmup_steps": 3}, {}),
    ],
)
def test_a_schedule_is_what_transformers_makes_of_its_name(keys: dict[str, Any], options: dict[str, Any]) -> None:
    made = arm(**keys)
    check_arms([made], TRAINING)
    ours, theirs = (torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=0.1, betas=(0.9, 0.9)) for _ in range(2))
    specific = {**keys.get("schedule_kwargs", {}), **options}
    expected = get_scheduler(keys["schedule"], theirs, keys.get("num_warmup_steps", 0), 20, specific)
    scheduler, curves = make_scheduler(ours, TRAINING, made, 20), []
    for _ in range(20):
        curves.append((scheduler.get_last_lr()[0], expected.get_last_lr()[0]))
        for optimizer, each in ((ours, scheduler), (theirs, expected)):
            optimizer.step()
            each.step()
    assert all(a == b for a, b in curves)
    assert len({a for a, _ in curves}) > 10


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"optimizer": "torch.optim.NAdm"}, "unknown optimizer 'torch.optim.NAdm'; choose one of torch.optim.NAdam, "),
        (
            {"optimizer": "troch.optim.NAdam"},
            "cannot be imported .*'troch'.* an import path such as torch.optim.NAdam",
        ),
        ({"optimizer": "torch.nn.Linear"}, "is no torch.optim.Optimizer but <class .*Linear'>; name a class"),
        ({"optimizer": "torch.optim.NAdam", "optimizer_kwargs": {"momentm_decay": 1}}, "one of momentum_decay, "),
        (
            {"optimizer": "torch.optim.NAdam", "optimizer_kwargs": {"momentum_decay": -1.0}},
            "NAdam .* cannot be used: ",
        ),
        (
            {"optimizer": "adamw", "optimizer_kwargs": {"eps": "1e-8"}},
            "eps='1e-8' .eps read as text; YAML wants a number such as 1.0e-8., cannot be used: ",
        ),
        ({"optimizer": "torch.optim.LBFGS"}, "torch.optim.LBFGS with no warmup cannot be used: LBFGS doesn't support"),
        (
            {"optimizer": "torch.optim.SGD", "warmup": "untuned_linear_warmup"},
            "param group 0 has no betas. Pass beta2=",
        ),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; choose one of cosine, "),
        ({"schedule": "greedy"}, "unknown schedule 'greedy'"),
        ({"schedule": "cosine", "schedule_kwargs": {"cycles": 2}}, "unexpected keyword argument 'cycles'"),
        ({"schedule": "constant", "schedule_kwargs": {"power": 2}}, "constant takes no schedule_kwargs"),
        ({"schedule": "constant", "num_warmup_steps": 3}, "constant has no warmup"),
        ({"schedule": "untuned_linear_warmup", "num_warmup_steps": 3}, "takes its length from beta2"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^arm a: .*{expected}") as caught:
        check_arms([arm(**keys)], TRAINING)
    assert "\n" not in str(caught.value)


def test_a_study_of_several_of_each_runs_and_says_what_they_are(small_study: Any, tmp_path: Any) -> None:
    arms = (
        "arms=[{name: nadam, optimizer: torch.optim.NAdam, optimizer_kwargs: {betas: [0.9, 0.8]}, "
        "warmup: untuned_linear_warmup}, {name: cosine, optimizer: adamw, schedule: cosine, num_warmup_steps: 2}, "
        "{name: sgd, optimizer: torch.optim.SGD, schedule: linear}, {name: radam, optimizer: radam}]"
    )
    study = load_study(
        small_study, overrides=(arms, "training.num_training_steps=12", "seeds=[0]", "learning_rates=[0.01]")
    )
    results = run_study(comparison_study(study), tmp_path)
    assert results is not None
    found = {each["name"]: each for each in results["tasks"][0]["arms"]}
    assert found["nadam"]["optimizer_kwargs"] == {"betas": [0.9, 0.8]}
    assert [found[name]["num_warmup_steps"] for name in ("nadam", "cosine", "sgd", "radam")] == [10, 2, 0, 0]
    assert found["cosine"]["schedule"] == "cosine"
    assert "schedule" not in found["radam"]
    losses = [found[name]["runs"][0]["curve"]["loss"] for name in found]
    assert len({loss[0] for loss in losses}) == 1
    assert len({loss[-1] for loss in losses}) == 4
