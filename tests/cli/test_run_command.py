"""`hf-warmup run`: a script's own list of schedules takes ours, and its traceback is its own."""

import argparse
from pathlib import Path

import pytest

from hf_warmup.cli.run import run_script
from hf_warmup.errors import ConfigError


SCRIPT = """
import argparse
from transformers import SchedulerType
parser = argparse.ArgumentParser()
group = parser.add_argument_group("training")
group.add_argument("--lr_scheduler_type", type=SchedulerType, default="linear", choices=["linear", "cosine"])
parser.add_argument("--color", choices=["red", "linear"])
parser.add_argument("--interpolation", choices=["linear", "cosine", "nearest"])
found = parser.parse_args()
print(found.lr_scheduler_type.value)
"""


def test_a_list_of_stock_schedules_takes_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    before = argparse._ActionsContainer.add_argument
    run_script(script, ["--lr_scheduler_type", "cosine_with_untuned_linear_warmup"])
    assert capsys.readouterr().out == "cosine_with_untuned_linear_warmup\n"
    for arguments in (
        ["--lr_scheduler_type", "no_such"],
        ["--color", "untuned_linear_warmup"],
        ["--interpolation", "untuned_linear_warmup"],
    ):
        with pytest.raises(SystemExit):
            run_script(script, arguments)
    assert argparse._ActionsContainer.add_argument is before


def test_a_failing_script_shows_its_own_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "fails.py"
    script.write_text("def inner():\n    raise ValueError('mine')\ninner()\n")
    with pytest.raises(SystemExit) as stopped:
        run_script(script, [])
    assert stopped.value.code == 1
    shown = capsys.readouterr().err
    assert "ValueError: mine" in shown
    assert shown.count("File ") == 2
    assert "runpy" not in shown
    script.write_text("x = (\n")
    with pytest.raises(SystemExit):
        run_script(script, [])
    shown = capsys.readouterr().err
    assert shown.startswith(f'  File "{script}", line 1')
    assert "SyntaxError" in shown


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_a_schedule_that_deepspeed_would_replace_is_refused(inline: bool, joined: bool, tmp_path: Path) -> None:
    config = '{"zero_optimization": {"stage": 1}, "scheduler": {"type": "WarmupLR"}}'
    (tmp_path / "zero.json").write_text(config)
    (tmp_path / "script.py").write_text("print('ran')")
    given = config if inline else str(tmp_path / "zero.json")
    option = [f"--deepspeed={given}"] if joined else ["--deepspeed", given]
    ours = ["--lr_scheduler_type", "untuned_linear_warmup"]
    with pytest.raises(ConfigError, match="would replace --lr_scheduler_type untuned_linear_warmup"):
        run_script(tmp_path / "script.py", [*ours, *option])
    run_script(tmp_path / "script.py", option)
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 1}}')
    run_script(tmp_path / "script.py", [*ours, "--deepspeed", str(tmp_path / "zero.json")])


def test_an_optimizer_that_is_not_there_is_refused_before_the_script_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match="optimizer 'nope'"):
        run_script(tmp_path / "script.py", [], optimizer="nope")
