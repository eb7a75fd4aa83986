"""`--json`: one document alone on standard output, from every command whose result a script may want to read."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import call
from planted import planted
from rich.console import Console

from hf_warmup.cli import output
from hf_warmup.cli.application import app


# What `run` prints is the script's own; `certify` writes its documents into a folder.
WITHOUT = {"run", "certify"}
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


def test_progress_shows_the_time_left_on_a_terminal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {True: io.StringIO(), False: io.StringIO()}
    for is_terminal, text in shown.items():
        console = Console(file=text, force_terminal=is_terminal, width=80)
        monkeypatch.setattr(output, "Console", lambda stderr, console=console: console)
        with output.shown_progress() as tell:
            tell("attack", 1, 3)
            tell("attack", 2, 3)
    assert "attack" in shown[True].getvalue()
    assert "2/3" in shown[True].getvalue()
    assert shown[False].getvalue() == ""
