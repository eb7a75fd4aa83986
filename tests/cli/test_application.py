"""The command line: help everywhere, and each mistake is one line on standard error with exit code 2."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import call

from hf_warmup.cli import compare as compare_command


@pytest.mark.parametrize("command", [[], ["compare"], ["preview"], ["run"]])
def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert call(monkeypatch, *command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compare", "no_such.yaml"], "no_such.yaml: no such file"),
        (["compare", "learning_rates=[5e-4]"], "write 5.0e-4"),
        (["compare", "traning.beta2=0.9"], "traning: unknown key"),
        (["compare", "--shard", "3/2"], "--shard must be i/n"),
        (["compare", "--seeds", "0"], "--seeds must be at least 1"),
        (["compare", "training.beta2=0.999"], "takes 2000 updates, but the run has 300"),
        (["run", "no_such.py", "--flag"], "no_such.py: no such script"),
        (["preview"], "give the length of the run"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("hf-warmup: ")
    assert expected in error
    assert "\n" not in error


def test_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    # Through the real application: typer has an answer of its own to Ctrl-C.
    monkeypatch.setattr(compare_command, "compare_and_report", interrupted)
    assert call(monkeypatch, "compare") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_scripts_see_what_python_would_show_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "helper_of_script.py").write_text("VALUE = 3")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, helper_of_script\nfrom transformers.trainer_utils import SchedulerType\n"
        "print(__name__, sys.argv, helper_of_script.VALUE, SchedulerType('radam_warmup').value)\nsys.exit(7)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert call(monkeypatch, "run", str(script), "--some_flag", "-x", "y=1") == 7
    assert capsys.readouterr().out.strip() == f"__main__ {[str(script), '--some_flag', '-x', 'y=1']} 3 radam_warmup"


def test_module_form(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["hf_warmup", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("hf_warmup", run_name="__main__")
    assert "compare" in capsys.readouterr().out


@pytest.mark.usefixtures("no_drawing")
def test_small_study_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_study: Path, tmp_path: Path
) -> None:
    arguments = ["compare", str(small_study), "training.num_training_steps=8", "--out", str(tmp_path / "out")]
    assert call(monkeypatch, *arguments, "--shard", "1/2") == 0
    assert "6 runs of other shards are still missing" in " ".join(capsys.readouterr().out.split())
    assert call(monkeypatch, *arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "12 runs into" in printed
    assert "6 of them done already" in printed
    assert call(monkeypatch, *arguments, "--json") == 0
    again = capsys.readouterr()
    document = json.loads(again.out)
    assert (document["complete"], document["report"]) == (True, str(tmp_path / "out" / "report.html"))
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["tasks"][0]["verdicts"] == stored["tasks"][0]["verdicts"]
    assert "12 runs into" in again.err
    assert (tmp_path / "out" / "report.html").exists()
    assert call(monkeypatch, *arguments, "training.weight_decay=0.3") == 2
