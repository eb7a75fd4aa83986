"""A person's own script, compared: one process a run, its flags, its scores, its failures."""

import sys
from pathlib import Path
from typing import Any

import pytest

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_lines, write_json
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own import script_run
from hf_warmup.studies.comparison.plan import Cell
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.folder import checkpoint_path, run_path
from hf_warmup.studies.runner import run_study


SCRIPT = Path(__file__).parents[1] / "scripts" / "train_own.py"
OWN = ["--per_device_train_batch_size", 8, "--max_steps=8", "--adam_beta2", 0.75, "--use_cpu"]
WARM = {"name": "warm", "optimizer": "adamw", "warmup": "untuned_linear_warmup"}
RADAM = {"name": "radam", "optimizer": "radam"}


def study_of(command: list[Any] | None = None, **changes: Any) -> StudyConfig:
    task: dict[str, Any] = {"name": "own", "kind": "script", "command": command or [str(SCRIPT), *OWN]}
    task |= {"metric": "accuracy", "margin": 0.1}
    task |= {key: changes.pop(key) for key in ("metric", "arguments") if key in changes}
    document = {"name": "mine", "tasks": [task], "learning_rates": [0.01], "seeds": [0], "arms": [WARM, RADAM]}
    return StudyConfig.model_validate({**document, **changes})


def command(study: StudyConfig, arm: int, output: Path) -> list[str]:
    [task] = study.tasks
    return script_run.command_of(task, Cell("own", study.arms[arm], 0.01, 5, 0), output)  # type: ignore[arg-type]


def test_an_unmodified_script_trains_with_the_arms_optimizer(tmp_path: Path) -> None:
    study = comparison_study(study_of([str(SCRIPT), "--note", "here", *OWN], arms=[RADAM]))
    results = run_study(study, tmp_path)
    assert results is not None
    *steps, result = read_lines(run_path(tmp_path, study.cells[0].name))
    assert [record["step"] for record in steps] == [*range(1, 9)]
    assert steps[0]["lr"] == 0.01
    assert steps[0]["update_mean"] > 0
    assert {"validation", "test"} <= result.keys()
    assert (tmp_path / "logs" / f"{study.cells[0].name}.log").read_text().splitlines()[-1] == "here RAdam"
    assert not checkpoint_path(tmp_path, study.cells[0].name).exists()


def test_flags_of_the_arm_stand_behind_a_persons_own(tmp_path: Path) -> None:
    words = command(study_of(arguments={"eval_steps": 4}), 0, tmp_path)
    start = [sys.executable, "-m", "hf_warmup", "run", "--end-with-stdin", "--optimizer", "adamw", str(SCRIPT)]
    assert words[: len(start)] == start
    flags = dict(zip(words[len(start) + len(OWN) :: 2], words[len(start) + len(OWN) + 1 :: 2], strict=True))
    assert flags["--lr_scheduler_type"] == "untuned_linear_warmup"
    assert flags["--learning_rate"] == "0.01"
    assert flags["--seed"] == flags["--data_seed"] == "5"
    assert flags["--lr_scheduler_kwargs"] == '{"on_short_run": "raise"}'
    assert flags["--eval_strategy"] == "steps"
    assert flags["--save_strategy"] == "no"
    assert "--resume_from_checkpoint" not in flags


def test_the_command_may_begin_with_a_launcher_and_ask_for_checkpoints(tmp_path: Path) -> None:
    launcher = ["accelerate", "launch", "--num_processes", 2]
    study = study_of([*launcher, str(SCRIPT), "--save_steps", 50], arms=[{**RADAM, "optimizer_kwargs": {"eps": 1e-6}}])
    write_json(tmp_path / "checkpoint-50" / "trainer_state.json", {})
    (tmp_path / "checkpoint-100").mkdir()
    words = command(study, 0, tmp_path)
    assert words[:6] == ["accelerate", "launch", "--num_processes", "2", "-m", "hf_warmup"]
    assert words[words.index("--optimizer-kwargs") + 1] == '{"eps": 1e-06}'
    assert words[-1] == str(tmp_path / "checkpoint-50")
    assert words[words.index("--save_strategy") + 1] == "steps"


def fake(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let runs be this program, whose first argument is the folder of the run."""
    monkeypatch.setattr(
        script_run, "command_of", lambda task, cell, output: [sys.executable, "-c", program, str(output)]
    )


STATE = "{'log_history': [{'step': 1, 'loss': 1.0, 'learning_rate': 0.01}]}"
WRITES = f"""
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "trainer_state.json").write_text(json.dumps({STATE}))
"""


def test_a_script_that_fails_is_a_failed_run_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = comparison_study(study_of([str(SCRIPT)]))
    fake(monkeypatch, "print('one'); raise SystemExit('no memory')")
    told: list[Record] = []
    results = run_study(study, tmp_path, on_record=lambda _, record: told.append(record))
    assert [record["kind"] for record in told] == ["failed", "failed"]
    assert told[0]["lines"][0].startswith("exit code 1: ")
    assert told[0]["lines"][1:] == ["one", "no memory"]
    assert results is not None
    assert results["tasks"][0]["arms"][0]["runs"][0]["failed"] == told[0]["reason"] == "no memory"
    scores = "(folder / 'all_results.json').write_text(json.dumps({'eval_accuracy': 0.5, 'eval_loss': 1.0}))"
    fake(monkeypatch, WRITES + scores)
    results = run_study(study, tmp_path)
    assert results is not None
    [run] = results["tasks"][0]["arms"][0]["runs"]
    assert (run["test"], "failed" in run) == (0.5, False)
    assert results["tasks"][0]["one_score"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "raise SystemExit('x.py: error: unrecognized arguments: --lr_scheduler_type linear')",
            "does not take --lr_s",
        ),
        ("pass", "trained no transformers Trainer"),
        (WRITES, "has no metric 'accuracy'; it has none"),
        (
            WRITES + "(folder / 'eval_results.json').write_text(json.dumps({'eval_f1': 0.5, 'eval_runtime': 1.0}))",
            "has no metric 'accuracy'; it has f1. Mend",
        ),
    ],
)
def test_a_script_that_does_not_fit_ends_the_study_in_one_line(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = comparison_study(study_of())
    fake(monkeypatch, program)
    with pytest.raises(ConfigError, match=said) as refused:
        run_study(study, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no_such.py"], "there is no script"),
        (["run_glue"], "holds no script"),
        ([str(SCRIPT), "--warmup_steps", 10], "--warmup_steps, which differs between arms"),
        (["no_such_launcher", str(SCRIPT)], "'no_such_launcher', which is not installed"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused(command: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        comparison_study(study_of(command))
