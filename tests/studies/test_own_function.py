"""A person's own training function, compared: what it may give, what is kept, what is said."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hf_warmup
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import read_json
from hf_warmup.studies.comparison.config import ArmConfig
from hf_warmup.studies.comparison.own.arm import Arm


ARMS = ["adamw", "adamw+untuned_linear_warmup", "radam"]


def noise(seed: int, arm: str) -> float:
    """The same on every machine, different for each pair."""
    return math.sin(1000 * (seed + 1) + 7 * sum(map(ord, arm))) / 100


def score(arm: Arm, learning_rate: float, seed: int) -> float:
    """AdamW without warmup is worse; .02 is the best rate."""
    worse = 0.3 if arm.name == "adamw" else 0.0
    return 0.8 - worse - abs(learning_rate - 0.02) + noise(seed, arm.name)


def steps(arm: Arm, learning_rate: float, seed: int) -> Iterator[Any]:
    for step in range(1, 41):
        yield {"step": step, "loss": torch.tensor(2.0 / step), "lr": learning_rate}
        if step % 20 == 0:
            yield {"step": step, "validation": 0.5 + step / 100}
    yield {"validation": score(arm, learning_rate, seed), "test": score(arm, learning_rate, seed + 100)}


@pytest.mark.usefixtures("no_drawing")
def test_a_function_is_compared_and_its_records_are_drawn(tmp_path: Path) -> None:
    found = hf_warmup.compare(
        steps, arms=ARMS, learning_rates=[0.01, 0.02], seeds=range(3), margin=0.05, metric="accuracy", out=tmp_path
    )
    assert found.verdicts == {"adamw": "different", "adamw+untuned_linear_warmup": "equivalent"}
    assert "adamw is worse than radam" in str(found)
    assert "points" in str(found)
    [task] = read_json(tmp_path / "results.json")["tasks"]
    assert [arm["learning_rate"] for arm in task["arms"]] == [0.02] * 3
    assert task["num_training_steps"] == 40
    run = task["arms"][0]["runs"][2]
    assert run["curve"]["loss"][:2] == [2.0, 1.0]
    assert run["curve"]["multiplier"] == [1.0] * 40
    assert [each["validation"] for each in run["evaluations"]] == [0.7, 0.9]
    assert run["test"] == pytest.approx(0.5 + noise(102, "adamw"))
    drawn = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert drawn == {"differences", "steps_learning", "steps_rates", "steps_sensitivity"}
    assert found.report == tmp_path / "report.html"


@pytest.mark.usefixtures("no_drawing")
def test_a_killed_comparison_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []
    budget = [4]

    def run(arm: Arm, learning_rate: float, seed: int) -> float:
        if len(calls) == budget[0]:
            raise KeyboardInterrupt
        calls.append((arm.name, seed))
        return score(arm, learning_rate, seed)

    settings: dict[str, Any] = {"arms": ARMS, "learning_rates": [0.02], "seeds": range(3), "margin": 0.02}
    with pytest.raises(KeyboardInterrupt):
        hf_warmup.compare(run, out=tmp_path / "killed", **settings)
    budget[0] = 100
    hf_warmup.compare(run, out=tmp_path / "killed", **settings)
    assert len(calls) == len(set(calls)) == 9
    hf_warmup.compare(run, out=tmp_path / "whole", **settings)
    first, second = (read_json(tmp_path / name / "results.json") for name in ("killed", "whole"))
    assert first == second
    assert first["tasks"][0]["one_score"] is True
    assert "plots/differences.png" in (tmp_path / "whole" / "report.md").read_text()
    with pytest.raises(ConfigError, match="another study|other settings"):
        hf_warmup.compare(run, out=tmp_path / "whole", **{**settings, "margin": 0.03})


def test_one_score_needs_seeds_of_their_own_for_the_rates(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"arms": ARMS, "learning_rates": [0.01, 0.02, 0.03], "seeds": range(3), "margin": 0.02}
    with pytest.raises(ConfigError, match="tuning_seeds"):
        hf_warmup.compare(score, **settings)
    seen = []

    def loss(arm: Arm, learning_rate: float, seed: int) -> float:
        seen.append((learning_rate, seed))
        return 1 - score(arm, learning_rate, seed)

    found = hf_warmup.compare(loss, **settings, tuning_seeds=[90, 91], metric="loss")
    assert {rate for rate, seed in seen if seed < 90} == {0.02}, "the smallest loss is the best one"
    assert found.verdicts["adamw"] == "different"
    assert "adamw is worse than radam" in str(found)
    assert "points" not in str(found)
    assert found.report is None


def test_seeds_are_added_until_the_plan_decides() -> None:
    seeds = set()

    def run(arm: Arm, learning_rate: float, seed: int) -> float:
        seeds.add(seed)
        return score(arm, learning_rate, seed)

    plan = hf_warmup.Plan(looks=(5, 8, 12))
    found = hf_warmup.compare(run, arms=["adamw", "radam"], learning_rates=[0.02], seeds=plan, margin=0.05)
    assert seeds == set(range(5))
    assert "first of three looks" in str(found)
    with pytest.raises(ConfigError, match="alpha must be 0.05"):
        hf_warmup.compare(run, learning_rates=[0.02], seeds=hf_warmup.Plan(alpha=0.01), margin=0.05)


@pytest.mark.usefixtures("no_drawing")
def test_an_arm_without_a_score_is_a_result(tmp_path: Path) -> None:
    def run(arm: Arm, learning_rate: float, seed: int) -> Iterator[Any]:
        yield {"step": 1, "loss": math.nan if arm.name == "adamw" else 1.0}
        yield math.nan if arm.name == "adamw" else score(arm, learning_rate, seed)

    found = hf_warmup.compare(run, arms=ARMS, learning_rates=[0.02], seeds=range(3), margin=0.02, out=tmp_path)
    assert "adamw cannot be judged on run: it diverged on all 3 seeds." in str(found)
    assert all(run["diverged"] for run in found.results["tasks"][0]["arms"][0]["runs"])


@pytest.mark.usefixtures("no_drawing")
def test_a_run_that_raises_is_a_failed_run_and_its_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [True]

    def run(arm: Arm, learning_rate: float, seed: int) -> float:
        if broken[0] and (arm.name, seed) == ("adamw", 1):
            raise RuntimeError("out of luck\nwith more words")
        return score(arm, learning_rate, seed)

    settings: dict[str, Any] = {"arms": ARMS, "learning_rates": [0.02], "seeds": range(3), "margin": 0.02}
    found = hf_warmup.compare(run, **settings, out=tmp_path)
    sentence = "adamw cannot be judged on run: 1 of its 3 runs failed (RuntimeError: out of luck)."
    assert sentence in str(found)
    assert "with more words" in capsys.readouterr().out
    [task] = found.results["tasks"]
    [failure] = task["failures"]
    assert (failure["arm"], failure["seed"], failure["lines"][-1]) == ("adamw", 1, "with more words")
    report = (tmp_path / "report.md").read_text()
    assert sentence in report
    assert "- adamw, learning rate 0.02, seed 1 failed: RuntimeError: out of luck\n\n````text\n" in report
    assert "| adamw | 0.02 | – | 3 | – | failed (1 of 3) |" in report
    broken[0] = False
    assert set(hf_warmup.compare(run, **settings, out=tmp_path).verdicts) == set(ARMS[:-1]), "tried again"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0.5", "must be a number, got '0.5'"),
        (None, "gave no score"),
        ({"accuracy": 0.5}, "a mapping with accuracy"),
        ({"validation": 0.5, "test": "high"}, "the test score must be a number"),
        (iter([{"step": 0, "loss": 1.0}]), "from 1 on, got 0"),
        (iter([0.5, 0.6]), "must be the last"),
        (iter([{"step": 1}]), "gave no score"),
    ],
)
def test_what_is_no_score_is_refused_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        hf_warmup.compare(lambda *_: given, arms=ARMS, learning_rates=[0.02], seeds=[0], margin=0.02)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": ["adamw+no_warmup", "radam"]}, "warmup"),
        ({"arms": ["torch.optim.Nothing", "radam"]}, "torch.optim.N"),
        ({"margin": 0}, "margin"),
        ({"margin": "small"}, r"margin must be numbers, got \['small'\]"),
        ({"learning_rates": 0.01}, "learning_rates must be numbers, got 0.01"),
        ({"seeds": [0.5, 1]}, "seeds must be whole numbers"),
        ({"arms": "adamw"}, "arms must be a list of two or more"),
        ({"arms": [1, "radam"]}, "an arm is a text such as .* got 1"),
        ({"seeds": []}, "seeds"),
        ({"learning_rates": [-1.0]}, "positive"),
        ({"seeds": hf_warmup.Plan(), "learning_rates": [0.1, 0.2]}, "tuning_seeds"),
    ],
)
def test_settings_are_checked_before_anything_runs(settings: dict[str, Any], said: str) -> None:
    def run(*_: Any) -> float:
        raise AssertionError("ran")

    with pytest.raises(ConfigError, match=said):
        hf_warmup.compare(run, **{"learning_rates": [0.02], "seeds": [0], "margin": 0.02, **settings})


def test_an_arm_makes_what_a_study_makes() -> None:
    model = torch.nn.Linear(3, 2)
    arm = Arm(ArmConfig(name="radam", optimizer="radam", warmup="untuned_linear_warmup"))
    optimizer = arm.make_optimizer(model, 0.1, betas=(0.9, 0.8), weight_decay=0.3)
    assert type(optimizer) is torch.optim.RAdam
    decays = {len(group["params"][0].shape): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {2: 0.3, 1: 0.0}
    assert all(group["decoupled_weight_decay"] for group in optimizer.param_groups)
    scheduler = arm.make_scheduler(optimizer, 20, decay="constant")
    assert scheduler.multipliers()[0] == pytest.approx(0.1)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="10 updates"):
        arm.make_scheduler(optimizer, 5)
