"""`hf-warmup smoothness`: from records to advice, a picture, and clear errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import colors_of
from planted import planted
from typer.testing import CliRunner

from hf_warmup.cli.application import app
from hf_warmup.errors import ConfigError
from hf_warmup.smoothness import SmoothnessRecord, advise, fit_smoothness
from hf_warmup.smoothness.records import read_records


def records(*, every: int = 10, **options: Any) -> list[SmoothnessRecord]:
    """A run whose loss falls from 10 to 0.05 and whose curvature is 2 + 5 gap."""
    rows = planted(1.0, 2.0, 5.0, seed=0, noise=0.05, **options)
    return [
        SmoothnessRecord(1 + i * every, row["gap"], row["gap"], row["smoothness"], 0.1) for i, row in enumerate(rows)
    ]


def write(path: Path, found: list[SmoothnessRecord]) -> Path:
    path.write_text("".join(json.dumps(vars(record)) + "\n" for record in found))
    return path


def test_advice_is_the_warmup_that_the_curvature_implies() -> None:
    found = records()
    fit = fit_smoothness(found, quantile=0.5, resamples=5)
    advice = advise(fit, found, beta2=0.99, smoothing=0.0)
    assert advice.largest_initial_step == pytest.approx(1 / 52, rel=0.05)
    assert advice.largest_final_step == pytest.approx(1 / 2.25, rel=0.05)
    assert advice.initial_multiplier == pytest.approx(2.25 / 52, rel=0.1)
    assert advice.multipliers[-1] == 1.0
    assert all(a <= b for a, b in zip(advice.multipliers, advice.multipliers[1:], strict=False))
    # As many full updates are lost as by a linear warmup of that length.
    lost = sum(10 * (1 - (2.25 / (2 + 5 * record.gap))) for record in found[:-1])
    assert advice.linear_period == pytest.approx(1 + 2 * lost, rel=0.05)
    assert advice.untuned_period == pytest.approx(200)
    with pytest.raises(ValueError, match="at least two records"):
        advise(fit, found[:1])
    with pytest.raises(ValueError, match="beta2 must lie"):
        advise(fit, found, beta2=1.0)


def test_command_writes_numbers_and_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", records())
    with path.open("a") as file:
        file.write('{"step": 2001, "loss": null, "gap": null, "smoothness": null, "update_norm": 1.0}\n')  # diverged
        file.write('{"step": 2011, "lo')  # cut short by a kill
    result = CliRunner().invoke(app, ["smoothness", str(path), "--beta2", "0.99", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "95 % interval" in result.output
    assert "the untuned rule takes 200" in result.output
    document = json.loads((tmp_path / "out" / "smoothness.json").read_text())
    assert document["fit"]["verdict"] == "supported"
    assert len(document["measurements"]["gap"]) == len(document["advice"]["multipliers"]) == 200
    assert {"#D55E00", "#0072B2"} <= colors_of(tmp_path / "out" / "smoothness.png"), (
        "the implied and the untuned warmup"
    )


@pytest.mark.usefixtures("no_drawing")
def test_no_advice_where_the_data_do_not_support_it(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", records()[:20])
    result = CliRunner().invoke(app, ["smoothness", str(path), "--out", str(tmp_path / "out")])
    assert "do not support the model: too little range" in result.output
    document = json.loads((tmp_path / "out" / "smoothness.json").read_text())
    assert document["advice"] is None
    assert (tmp_path / "out" / "smoothness.png").exists()


def test_records_of_a_resumed_run_replace_those_that_were_lost(tmp_path: Path) -> None:
    found = records()[:5]
    path = write(tmp_path / "run.jsonl", [*found, SmoothnessRecord(31, 1.0, 1.0, 7.0, 0.1), found[4]])
    assert [(r.step, r.smoothness) for r in read_records(path)][3] == (31, 7.0)
    assert [r.step for r in read_records(path)] == [1, 11, 21, 31, 41]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, [], "cannot be read"),
        ("{}\n", [], "line 1: not a record of SmoothnessProbe"),
        ("no json\n{}\n", [], "line 1: not a record of SmoothnessProbe"),
        ('{"kind": "step", "loss": 1.0}\n{}\n', [], "line 1: not a record of SmoothnessProbe"),
        ("", [], "a fit needs 12"),
        ("whole", ["--quantile", "1.5"], "quantile must lie"),
        ("whole", ["--beta2", "2"], "beta2 must lie"),
    ],
)
def test_mistakes(tmp_path: Path, text: str | None, options: list[str], message: str) -> None:
    path = tmp_path / "run.jsonl"
    if text == "whole":
        write(path, records())
    elif text is not None:
        path.write_text(text)
    result = CliRunner().invoke(app, ["smoothness", str(path), "--out", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
