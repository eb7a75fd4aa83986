"""`--json`: one document alone on standard output, from every command whose result a script may want to read."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from chains import SIZES, lively
from commands import call
from planted import planted

from hf_warmup.cli import output
from hf_warmup.cli.application import app
from hf_warmup.studies.certification.run import save_model


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


# What `run` prints is the script's own.
WITHOUT = {"run"}
COMMANDS: dict[str, Any] = {}
for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
    COMMANDS |= {f"{name} {key}": part for key, part in getattr(command, "commands", {"": command}).items()}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_the_option(name: str) -> None:
    options = {spelling for parameter in COMMANDS[name].params for spelling in parameter.opts}
    assert ("--json" in options) == (name.strip() not in WITHOUT)


def document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert call(monkeypatch, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_documents(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    short = ["preview", "untuned_linear_warmup", "--beta2", "0.75", "--num-training-steps", "4"]
    seen = document(monkeypatch, capsys, *short, "--png", str(tmp_path / "curve.png"))
    assert (seen["peak_update"], len(seen["multipliers"]), seen["picture"]) == (2, 4, str(tmp_path / "curve.png"))
    assert seen["warmup_updates"] == 8
    assert "8 updates" in seen["warnings"][0]
    records = tmp_path / "run.jsonl"
    lines = [
        {"step": step, "update_norm": 1.0, **record}
        for step, record in enumerate(planted(1.0, 1.0, 5.0, seed=0, n=40))
    ]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    fitted = document(monkeypatch, capsys, "smoothness", str(records), "--out", str(tmp_path / "fit"))
    assert fitted["fit"] == json.loads((tmp_path / "fit" / "smoothness.json").read_text())["fit"]
    cards = Path(__file__).parents[2] / "model_cards"
    listed = document(monkeypatch, capsys, "zoo", "list", "--local", "--root", str(cards))
    assert [entry["name"] for entry in listed["checkpoints"]] == sorted(path.name for path in cards.iterdir())
    assert document(monkeypatch, capsys, "env")["python"]
    study = tmp_path / "study.yaml"
    assert document(monkeypatch, capsys, "compare", "--init", str(study)) == {"written": str(study)}


def test_a_certificate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = {**SIZES["cnn_small"], "num_channels": 1, "image_mean": [0.3], "image_std": [0.4], "image_size": 8}
    save_model(lively(7, "cnn_small", "full", **{**sizes, "num_labels": 10}), tmp_path / "model")
    options = ["--eps", "1/2000", "--examples", "8", "--pgd-steps", "1", "--method", "ibp", "--out", str(tmp_path)]
    found = document(monkeypatch, capsys, "certify", str(tmp_path / "model"), "digits", *options)
    stored = json.loads((tmp_path / "certificate.json").read_text())
    assert (found["num_examples"], found["num_verified"]) == (8, stored["num_verified"])
    assert found["certificate"] == str(tmp_path / "certificate.json")
    assert "drawn from the split" in found["remarks"][0]


def test_a_mistake_leaves_standard_output_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "preview", "no_such_schedule", "--num-training-steps", "4", "--json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no_such_schedule" in printed.err


def test_numbers_that_json_has_none_of_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("nan"), "b": (float("inf"), 1.5), "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "x"}


def test_curves_are_left_out_at_any_depth() -> None:
    found = output.without_curves({"arms": [{"runs": [{"seed": 0, "evaluations": [1], "curve": {"a": 1}}], "n": 1}]})
    assert found == {"arms": [{"runs": [{"seed": 0}], "n": 1}]}
