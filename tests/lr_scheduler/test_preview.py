"""Previews: what is shown is what the real scheduler does."""

import re
from pathlib import Path
from typing import Any

import pytest
from pictures import colors_of

from hf_warmup.cli.preview import draw, show_preview
from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.preview import Setup, preview


def test_untuned_warmup_in_a_run_that_holds_it() -> None:
    found = preview(Setup("untuned_linear_warmup", beta2=0.8, num_training_steps=32))
    assert found.multipliers == pytest.approx([min(1, k / 10) * (1 - (k - 1) / 32) for k in range(1, 33)])
    assert (found.warmup_updates, found.effective_warmup_period) == (pytest.approx(10), pytest.approx(4.5))
    assert found.peak_update == 10
    assert found.warmup_share == pytest.approx(10 / 32)
    assert found.warnings == ()


@pytest.mark.parametrize("processes", [2, 4])
def test_prepared_without_scaling_ends_too_early_and_says_so(processes: int) -> None:
    found = preview(Setup("linear", num_training_steps=40, num_warmup_steps=8, num_processes=processes, prepared=True))
    assert found.multipliers[40 // processes :] == (0.0,) * (40 - 40 // processes)
    assert (
        f"through after {40 // processes} of 40 updates: multiply num_training_steps and num_warmup_steps"
        in " ".join(found.warnings)
    )
    alone = preview(Setup("linear", num_training_steps=40, num_warmup_steps=8, num_processes=processes))
    assert not any("prepared" in warning for warning in alone.warnings)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "untuned_linear_warmup", "num_training_steps": 234}, r"takes 2000 updates.*beta2 of 0\.9145"),
        (
            {"name": "linear_warmup", "num_training_steps": 20, "num_warmup_steps": 50},
            "takes 50 updates, but the run has 20",
        ),
        ({"name": "linear", "num_training_steps": 20, "num_warmup_steps": 5}, "starts at a learning rate of 0"),
        ({"name": "radam_warmup", "num_training_steps": 90, "beta2": 0.9}, "first 5 updates stand still"),
        (
            {"name": "linear_warmup", "num_training_steps": 20, "num_warmup_steps": 5, "optimizer": "radam"},
            "RAdam already warms up",
        ),
        (
            {"name": "untuned_linear_warmup", "num_training_steps": 50, "beta2": 0.9, "optimizer": "radam"},
            "a second time",
        ),
    ],
)
def test_surprises_are_named(options: dict[str, Any], expected: str) -> None:
    assert re.search(expected, " ".join(preview(Setup(**options)).warnings))


def test_updates_are_counted_as_the_trainer_counts_them() -> None:
    assert Setup(dataset_size=2490, epochs=3, batch_size=32).num_updates == 234
    assert Setup(dataset_size=2490, epochs=3, batch_size=8, gradient_accumulation_steps=4).num_updates == 234
    assert Setup(dataset_size=2490, epochs=3, batch_size=16, num_processes=2).num_updates == 234


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "either as num_training_steps or as dataset_size"),
        ({"num_training_steps": 5, "dataset_size": 5}, "either as num_training_steps"),
        ({"num_training_steps": 0}, "num_training_steps must be at least 1"),
        ({"num_training_steps": 10**14}, "a preview makes at most 10000000 updates, got 100000000000000"),
        ({"dataset_size": 10**9, "epochs": 1e9}, "at most 10000000 updates"),
        ({"num_training_steps": 5, "learning_rate": 0.0}, "learning_rate must be positive"),
        ({"num_training_steps": 5, "beta2": 1.0}, "beta2 must lie strictly"),
        ({"num_training_steps": 5, "num_warmup_steps": -1}, "must not be negative"),
        ({"num_training_steps": 5, "optimizer": "sgd"}, "adamw or radam"),
        ({"num_training_steps": 5, "name": "no_such"}, "unknown scheduler 'no_such'"),
        ({"num_training_steps": 5, "name": "reduce_lr_on_plateau"}, "follows the evaluation results"),
        ({"num_training_steps": 5, "name": "cosine_with_loss_adaptive_warmup"}, "follows the training loss"),
        ({"num_training_steps": 5, "num_warmup_steps": 2}, "warmup_steps=0"),
    ],
)
def test_what_cannot_be_is_one_clear_error(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        show_preview(options, [], png=None)
    with pytest.raises(ConfigError, match="key=value"):
        show_preview({"num_training_steps": 5}, ["decay"], png=None)
    with pytest.raises(ConfigError, match="warmup_period"):
        show_preview({"num_training_steps": 5}, ["warmup_period=3"], png=None)


def test_drawing_follows_the_curve() -> None:
    values = tuple(k / 100 for k in range(1, 101))
    lines = draw(values, width=50, height=4)
    assert [len(line.rstrip()) for line in lines[:4]] == [56] * 4
    filled = [sum(character != " " for character in line[6:]) for line in lines[:4]]
    assert filled == sorted(filled)
    plain = draw(values, width=50, height=4, unicode=False)
    assert set("".join(line[6:] for line in plain[:4])) == {" ", "#"}
    assert draw((1.0,), width=50)[0].endswith("█")


def test_picture_and_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"name": "cosine_with_untuned_linear_warmup", "beta2": 0.98, "num_training_steps": 600}
    show_preview(values, ["min_lr_ratio=0.1"], png=tmp_path / "curve.png")
    printed = capsys.readouterr().out
    assert "100 updates, 16.7 % of the run" in printed
    assert "at update 100" in printed
    assert {"#0072B2", "#EAF1F6"} <= colors_of(tmp_path / "curve.png"), "the curve, and the band of the warmup"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
