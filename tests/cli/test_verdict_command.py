"""`hf-warmup verdict`: one line an arm, and one line for a bad file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hf_warmup
from hf_warmup.cli.application import app
from hf_warmup.cli.verdict import read_scores
from hf_warmup.errors import ConfigError


BASE = [0.950, 0.952, 0.951, 0.949, 0.953]
FAR = [0.90, 0.91, 0.90, 0.89, 0.91]
CLOSE = [0.9512, 0.9533, 0.9526, 0.9511, 0.9541]


def write(path: Path, arms: dict[str, list[float]]) -> Path:
    lines = [f"{seed},{arm},{score}" for arm, scores in arms.items() for seed, score in enumerate(scores)]
    path.write_text("\n".join(["seed,arm,score", *lines]) + "\n")
    return path


def test_one_line_an_arm(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.csv", {"a": FAR, "radam": BASE, "b": CLOSE, "c": BASE})
    command = ["verdict", str(path), "--margin", "0.01", "--baseline", "radam"]
    lines = CliRunner(env={"COLUMNS": "80"}).invoke(app, command).stdout.splitlines()
    found = {name: [line for line in lines if line.startswith(f"{name} ")] for name in "abc"}
    assert [len(rows) for rows in found.values()] == [1, 1, 1]
    for name, word in {"a": "worse", "b": "equivalent", "c": "not decided"}.items():
        assert word in found[name][0]
    assert "-0.0490" in found["a"][0], "nothing is cut at 80 columns"
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [each["arm"] for each in document["verdicts"]] == ["a", "b", "c"]
    assert any(line.startswith("All 3 arms against radam at once") for line in lines)
    lower = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*command, "--lower-is-better", "--explain"]).stdout
    assert "- a is better than radam: the difference of −0.049 in score" in lower


def test_seeds_that_have_no_pair_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.csv", {"radam": BASE, "a": FAR[:3], "b": CLOSE})
    said = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["verdict", str(path), "--margin", "0.01"]).stdout
    assert "a: seeds that only a or radam has do not count: 3, 4.\n" in said
    assert "b: seeds" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed,arm\n0,a\n", "no column score"),
        ("", "no column seed, arm, score"),
        ("seed,arm,score\n", "no scores"),
        ("seed,arm,score\n0,a,high\n", "line 2: seed must be a whole number"),
        ("seed,arm,score\n1_0,a,0.5\n", "line 2: seed must be a whole number"),
        ("seed,arm,score\n0,a,0.٥\n", "line 2: seed must be a whole number"),
        ("seed,arm,score\n0,,0.5\n", "no name"),
        ("seed,arm,score\n0,a\n", "got '0' and None"),
        ("seed,arm,score\n0,a,0,57\n", "line 2: more values than columns; a number has a point"),
        ("seed,arm,score\n0,a,0.5\n0,a,0.6\n", "line 3: arm a has seed 0 twice"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_scores(path)


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        ({"a": BASE}, [], "an arm and a baseline"),
        ({"a": BASE, "b": FAR}, ["--baseline", "c"], "baseline 'c' is not among"),
        ({"a": BASE, "b": [float("nan")] * 5}, [], "finite"),
        ({"a": BASE, "b": FAR}, ["--margin", "0"], "margin"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    tmp_path: Path, arms: dict[str, list[float]], options: list[str], message: str
) -> None:
    path = write(tmp_path / "scores.csv", arms)
    result = CliRunner().invoke(app, ["verdict", str(path), "--margin", "0.01", *options])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_public_function_pairs_by_place_or_by_seed() -> None:
    by_place = hf_warmup.verdict(FAR, BASE, margin=0.01)
    by_seed = hf_warmup.verdict(dict(enumerate(FAR)), {**dict(enumerate(BASE)), 9: 0.5}, margin=0.01)
    assert by_place == by_seed
    assert by_place.verdict == "different"
    assert str(by_place).startswith("the arm is worse than the baseline: the difference of −0.049 in score")
    assert by_place.comparison.n == 5
    assert hf_warmup.verdict([0.5 + 4 / 300] * 2, [0.5] * 2, margin=0.1).verdict == "not decided"
    with pytest.raises(ValueError, match="5 and 2 scores"):
        hf_warmup.verdict(FAR, BASE[:2], margin=0.01)
