"""Studies: fair pairs, results that depend on nothing but the study, and work that a kill does not undo."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import read_lines
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig, load_study
from hf_warmup.studies.comparison.run import Cell, make_optimizer, make_scheduler, num_updates, run_cell
from hf_warmup.studies.comparison.study import collect, load_tasks, open_study, plan, run_study, thin_out
from hf_warmup.studies.folder import run_path


def run_all(study: StudyConfig, folder: Path, shard: tuple[int, int] = (1, 1)) -> int:
    open_study(study, folder)
    return run_study(study, load_tasks(study), folder, shard=shard, on_record=lambda cell, record: None)


def test_arms_share_start_and_data_and_differ_in_optimizer_and_warmup_only(small_study: Path) -> None:
    study = load_study(small_study, overrides=("training.num_training_steps=8",))
    task = load_tasks(study)["digits"]
    arms = {arm.name: arm for arm in study.arms}

    def first_steps(name: str, seed: int) -> list[dict[str, Any]]:
        return [r for r in run_cell(study, task, Cell("digits", arms[name], 0.01, seed)) if r["kind"] == "step"]

    adamw, warm, radam = (first_steps(name, 0) for name in arms)
    # The first loss and gradient are those of the same weights on the same batch.
    assert adamw[0]["loss"] == warm[0]["loss"] == radam[0]["loss"]
    assert adamw[0]["grad_norm"] == warm[0]["grad_norm"] == radam[0]["grad_norm"]
    assert adamw[1]["loss"] != warm[1]["loss"]
    assert first_steps("adamw", 0) == adamw
    assert first_steps("adamw", 1)[0]["loss"] != adamw[0]["loss"]
    assert [r["multiplier"] for r in adamw] == pytest.approx([1 - k / 8 for k in range(8)], rel=1e-12)
    assert [r["multiplier"] for r in warm] == pytest.approx(
        [min(1, (k + 1) / 8) * (1 - k / 8) for k in range(8)], rel=1e-12
    )
    assert [r["lr"] for r in radam] == [r["lr"] for r in adamw]


def test_optimizers_are_equal_but_for_their_kind(small_study: Path) -> None:
    study = load_study(small_study)
    model = load_tasks(study)["digits"].make_model()
    made = {arm.name: make_optimizer(model, study, Cell("digits", arm, 0.01, 0)) for arm in study.arms}
    assert type(made["radam"]) is torch.optim.RAdam
    assert type(made["adamw"]) is torch.optim.AdamW
    shared = ("lr", "betas", "eps", "foreach", "weight_decay")
    for a, b in zip(made["radam"].param_groups, made["adamw"].param_groups, strict=True):
        assert {key: a[key] for key in shared} == {key: b[key] for key in shared}
        assert a["decoupled_weight_decay"] is True
        assert [id(p) for p in a["params"]] == [id(p) for p in b["params"]]
    decayed, spared = (group["params"] for group in made["adamw"].param_groups)
    assert len(decayed) + len(spared) == len(list(model.parameters()))
    assert all(p.dim() == 1 for p in spared)


def test_results_are_complete_and_repeatable(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study)
    for name in ("one", "two"):
        assert run_all(study, tmp_path / name) == 0
    one, two = (collect(study, load_tasks(study), tmp_path / name) for name in ("one", "two"))
    assert one == two
    [task] = one["tasks"]
    assert task["sizes"] == {"train": 200, "validation": 100, "test": 100}
    for arm in task["arms"]:
        assert [entry["learning_rate"] for entry in arm["grid"]] == [1e-3, 1e-2]
        means = {entry["learning_rate"]: sum(entry["validation"]) for entry in arm["grid"]}
        assert means[arm["learning_rate"]] == max(means.values()), "chosen on validation data"
        assert [run["seed"] for run in arm["runs"]] == [0, 1]
        for run in arm["runs"]:
            assert run["curve"]["step"] == list(range(1, 25))
            assert [e["step"] for e in run["evaluations"]] == [10, 20, 24]
            assert run["validation"] == run["evaluations"][-1]["validation"], (
                "the last weights are scored, not the best"
            )
    lengths = {arm["name"]: arm["num_warmup_steps"] for arm in task["arms"]}
    assert lengths == {"adamw": 0, "adamw+untuned_linear_warmup": 8.0, "radam": 0}


def test_shards_fill_one_folder(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study, overrides=("training.num_training_steps=8",), num_seeds=1)
    assert run_all(study, tmp_path / "out", (1, 2)) == 3
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").iterdir()}
    assert len(first) == 3
    assert run_all(study, tmp_path / "out", (2, 2)) == 0
    for name, modified in first.items():
        assert (tmp_path / "out" / "cells" / name).stat().st_mtime_ns == modified, "complete cells are left alone"


def test_seeds_can_be_added_but_nothing_else_changed(small_study: Path, tmp_path: Path) -> None:
    open_study(load_study(small_study), tmp_path / "out")
    open_study(load_study(small_study, num_seeds=5), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other settings \(training\)"):
        open_study(load_study(small_study, overrides=("training.weight_decay=0.5",)), tmp_path / "out")


def test_unfinished_warmups_are_refused(small_study: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes 200 updates, but the run has 24.*would fit"):
        load_tasks(load_study(small_study, overrides=("training.beta2=0.99",)))
    long = "{name: a, optimizer: adamw, warmup: linear_warmup, num_warmup_steps: 25}"
    arms = f"arms=[{{name: radam, optimizer: radam}}, {long}]"
    with pytest.raises(ConfigError, match="warms up for 25 of 24 updates"):
        load_tasks(load_study(small_study, overrides=(arms,)))


def test_divergence_is_a_result(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(small_study)
    task = load_tasks(study)["digits"]

    def broken(model: Any, batch: Any, step: int) -> Any:
        return model(**batch).loss * float("nan"), {}

    monkeypatch.setattr("hf_warmup.studies.comparison.run.supervised", broken)
    *_, last, result = run_cell(study, task, Cell("digits", study.arms[0], 0.01, 0))
    assert last == {"kind": "diverged", "step": 5}
    assert result["diverged"] is True
    assert result["skipped_steps"] == 5
    assert 0.0 <= result["test"] <= 0.5, "the weights as they are get their score"


def test_epochs_count_full_batches_of_all_processes(small_study: Path) -> None:
    study = load_study(small_study)
    training = study.training.model_copy(update={"num_training_steps": None, "epochs": 2.5, "batch_size": 8})
    study = study.model_copy(update={"training": training})
    assert num_updates(study, 203, 1) == 62
    assert num_updates(study, 203, 2) == 30


def test_no_warmup_is_the_full_rate_from_the_first_update(small_study: Path) -> None:
    study = load_study(small_study)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], betas=(0.9, 0.75))
    assert make_scheduler(optimizer, study, ArmConfig(name="a", optimizer="adamw"), 10).multipliers() == [1.0]


def test_thinned_curve_keeps_the_start_and_averages_the_rest() -> None:
    names = ("loss", "lr", "multiplier", "grad_norm", "update_mean", "update_ratio_mean", "update_ratio_median")
    steps: list[dict[str, Any]] = [{"step": t, **dict.fromkeys(names, float(t))} for t in range(1, 1001)]
    for record in steps[1::2]:
        record["update_mean"] = None
    curve = thin_out(steps)
    assert len(curve["step"]) <= 200
    assert curve["loss"][:64] == [float(t) for t in range(1, 65)]
    assert curve["step"][64:66] == [71, 78]
    assert curve["loss"][64] == 68.0
    assert curve["lr"][64] == 71.0
    assert curve["update_mean"][64] == 68.0
    assert curve["step"][-1] == 1000
    assert thin_out(steps[:5])["step"] == [1, 2, 3, 4, 5]


def launch(study: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hf_warmup", "compare", str(study), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ})


def test_killed_study_ends_with_the_results_of_an_unbroken_one(small_study: Path, tmp_path: Path) -> None:
    text = small_study.read_text().replace("evaluate_every: 10", "evaluate_every: 10, checkpoint_every: 5")
    small_study.write_text(text)
    whole = launch(small_study, tmp_path / "whole")
    output = whole.communicate(timeout=240)[0].decode()
    assert whole.returncode == 0, output
    out = tmp_path / "killed"
    cells = plan(load_study(small_study))

    def lines(cell: Cell) -> int:
        partial = run_path(out, cell.name).with_suffix(".jsonl.partial")
        return len(list(read_lines(partial))) if partial.exists() else 0

    moments: list[Callable[[], bool]] = [
        lambda: lines(cells[0]) >= 7,  # within the first cell, behind its first checkpoint
        lambda: run_path(out, cells[1].name).exists(),  # between two cells, or just into one
        lambda: lines(cells[-1]) >= 17,  # within the last cell
    ]
    for moment in moments:
        process = launch(small_study, out)
        deadline = time.monotonic() + 120
        while not moment():
            assert process.poll() is None, "the study ended before the moment to kill it"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "results.json").exists()
    process = launch(small_study, out)
    output = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 0, output
    assert (out / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
    assert not list(out.glob("checkpoints/*")), "checkpoints of complete cells are removed"
    names = [path.name for path in (out / "cells").iterdir()]
    assert sorted(names) == sorted(f"{cell.name}.jsonl" for cell in cells)
    for cell in cells:
        assert run_path(out, cell.name).read_bytes() == run_path(tmp_path / "whole", cell.name).read_bytes()


def test_trackers_get_every_number_under_the_cells_name(small_study: Path, tmp_path: Path) -> None:
    overrides = ("training.num_training_steps=8", "training.log_with=[tensorboard]", "learning_rates=[0.001]")
    study = load_study(small_study, overrides=overrides, num_seeds=1)
    assert run_all(study, tmp_path / "out") == 0
    [events] = {path.parent for path in (tmp_path / "out" / "trackers").rglob("events*")}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(events))
    log.Reload()
    stored = list(read_lines(run_path(tmp_path / "out", plan(study)[1].name)))
    losses = [record["loss"] for record in stored if record["kind"] == "step"]
    tag = "digits--adamw+untuned_linear_warmup--0.001--0/train/loss"
    logged = {event.step: event.value for event in log.Scalars(tag)}
    assert [logged[t] for t in range(1, 9)] == pytest.approx(losses, rel=1e-6)
