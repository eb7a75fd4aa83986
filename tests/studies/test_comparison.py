"""Studies: fair pairs, results that depend on nothing but the study, and work that a kill does not undo."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from warm import Program

from hf_warmup.cli.compare import compare_and_report
from hf_warmup.data.tasks import Task, load_task
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json, read_lines
from hf_warmup.studies.comparison.arms import make_optimizer, make_scheduler
from hf_warmup.studies.comparison.config import ArmConfig, StudyConfig, load_study
from hf_warmup.studies.comparison.plan import Cell, plan, run_length
from hf_warmup.studies.comparison.run import run_cell
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.comparison.summary import thin_out
from hf_warmup.studies.folder import checkpoint_path, run_path
from hf_warmup.studies.runner import claim_study, missing, run_study
from hf_warmup.training.checkpoints import latest_checkpoint


pytestmark = pytest.mark.usefixtures("no_drawing")


def task_of(study: StudyConfig) -> Task:
    return load_task(study.tasks[0], study.model)


def test_arms_share_start_and_data_and_differ_in_optimizer_and_warmup_only(small_study: Path) -> None:
    study = load_study(small_study, overrides=("training.num_training_steps=8",))
    task = task_of(study)
    arms = {arm.name: arm for arm in study.arms}

    def first_steps(name: str, seed: int) -> list[dict[str, Any]]:
        cell = Cell("digits", arms[name], 0.01, seed, num_updates=8)
        return [r for r in run_cell(task, study.training, cell) if r["kind"] == "step"]

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
    model = task_of(study).make_model()
    made = {arm.name: make_optimizer(model, study.training, arm, 0.01) for arm in study.arms}
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


def test_results_are_complete(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study)
    results = run_study(comparison_study(study), tmp_path)
    assert results is not None
    [task] = results["tasks"]
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


def test_shards_fill_one_folder_and_keep_pairs_together(small_study: Path, tmp_path: Path) -> None:
    study = comparison_study(load_study(small_study, overrides=("training.num_training_steps=8", "seeds=[3, 5, 8]")))
    assert run_study(study, tmp_path / "out", shard=(1, 2)) is None
    assert {cell.seed for cell in missing(study.cells, tmp_path / "out")} == {5}
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").iterdir()}
    assert len(first) == 12, "all arms and rates of two seeds"
    assert run_study(study, tmp_path / "out", shard=(2, 2)) is not None
    for name, modified in first.items():
        assert (tmp_path / "out" / "cells" / name).stat().st_mtime_ns == modified, "complete cells are left alone"


def test_seeds_can_be_added_but_nothing_else_changed(small_study: Path, tmp_path: Path) -> None:
    claim_study(comparison_study(load_study(small_study)), tmp_path / "out")
    claim_study(comparison_study(load_study(small_study, num_seeds=5)), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other settings \(training\)"):
        claim_study(
            comparison_study(load_study(small_study, overrides=("training.weight_decay=0.5",))), tmp_path / "out"
        )


def test_unfinished_warmups_are_refused(small_study: Path) -> None:
    expected = "task digits: .*takes 200 updates, but the run has 24. .*at least 200 updates long, or choose training"
    with pytest.raises(ConfigError, match=expected) as caught:
        comparison_study(load_study(small_study, overrides=("training.beta2=0.99",)))
    assert "cap" not in str(caught.value)
    # The beta2 that is recommended does fit, and nearly fills the run.
    beta2 = float(str(caught.value).partition("training.beta2=")[2].split()[0])
    assert 22 < 2 / (1 - beta2) <= 24
    comparison_study(load_study(small_study, overrides=(f"training.beta2={beta2}",)))
    # A run as long as its warmup is not too short: 2 / (1 - .9) is 20.000000000000004.
    comparison_study(load_study(small_study, overrides=("training.beta2=0.9", "training.num_training_steps=20")))
    with pytest.raises(ConfigError, match="too short for an untuned warmup at any usual beta2"):
        comparison_study(load_study(small_study, overrides=("training.beta2=0.9", "training.num_training_steps=19")))
    long = "{name: a, optimizer: adamw, warmup: linear_warmup, num_warmup_steps: 25}"
    arms = f"arms=[{{name: radam, optimizer: radam}}, {long}]"
    with pytest.raises(ConfigError, match="warms up for 25 of 24 updates"):
        comparison_study(load_study(small_study, overrides=(arms,)))


def test_batches_larger_than_the_data_are_refused(small_study: Path) -> None:
    with pytest.raises(ConfigError, match=r"task digits: a batch takes 256 examples.*there are 200.*batch_size"):
        comparison_study(load_study(small_study, overrides=("training.batch_size=256",)))


def test_divergence_is_a_result(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("arms=[{name: radam, optimizer: radam}]", "learning_rates=[0.01]")
    study = load_study(small_study, overrides=overrides, num_seeds=1)

    def broken(model: Any, batch: Any, step: int) -> Any:
        return model(**batch).loss * float("nan"), {}

    monkeypatch.setattr("hf_warmup.studies.comparison.run.supervised", broken)
    results = run_study(comparison_study(study), tmp_path)
    *_, last, stored = read_lines(next((tmp_path / "cells").iterdir()))
    assert last == {"kind": "diverged", "step": 5}
    assert (stored["diverged"], stored["skipped_steps"]) == (True, 5)
    assert results is not None
    [[run]] = [arm["runs"] for arm in results["tasks"][0]["arms"]]
    assert (run["diverged"], run["skipped_steps"]) == (True, 5)
    assert 0.0 <= run["test"] <= 0.5, "the weights as they are get their score"


def test_epochs_count_full_batches_of_all_processes(small_study: Path) -> None:
    training = load_study(small_study).training
    training = training.model_copy(update={"num_training_steps": None, "epochs": 2.5, "batch_size": 8})
    assert run_length(training, 203, 1) == 62
    assert run_length(training, 203, 2) == 30


def test_no_warmup_is_the_full_rate_from_the_first_update(small_study: Path) -> None:
    training = load_study(small_study).training
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], betas=(0.9, 0.75))
    assert make_scheduler(optimizer, training, ArmConfig(name="a", optimizer="adamw"), 10).multipliers() == [1.0]


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


def test_interrupted_at_any_record_a_study_ends_as_an_unbroken_one(small_study: Path, tmp_path: Path) -> None:
    """Also between the last checkpoint, which here is that of the last update, and the result."""
    overrides = ("arms=[{name: radam, optimizer: radam}]", "learning_rates=[0.01]", "training.checkpoint_every=6")
    study = comparison_study(load_study(small_study, overrides=overrides, num_seeds=1))
    whole = run_study(study, tmp_path / "whole")
    out, stored = tmp_path / "interrupted", run_path(tmp_path / "whole", study.cells[0].name).read_bytes()
    left = 0

    def interrupt(cell: Cell, record: Record) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    # Counted from each start: before a checkpoint, behind one, the evaluation of the last update, and the result.
    for count in (3, 9, 14, 9, 1):
        left = count
        with pytest.raises(KeyboardInterrupt):
            run_study(study, out, on_record=interrupt)
    assert not run_path(out, study.cells[0].name).exists()
    assert list(latest_checkpoint(checkpoint_path(out, study.cells[0].name)) or ())[1:] == [24]
    assert run_study(study, out) == whole
    assert run_path(out, study.cells[0].name).read_bytes() == stored
    assert b'"diverged": false' in stored
    assert not list(out.glob("checkpoints/*")), "checkpoints of complete cells are removed"


def launch(study: Path, out: Path) -> Program:
    return Program(["-m", "hf_warmup", "compare", str(study), "--out", str(out)])


def test_two_starts_at_once_make_one_study_though_one_is_killed(small_study: Path, tmp_path: Path) -> None:
    text = small_study.read_text().replace("evaluate_every: 10", "evaluate_every: 10, checkpoint_every: 5")
    small_study.write_text(text.replace("learning_rates: [1.0e-3, 1.0e-2]", "learning_rates: [1.0e-2]"))
    compare_and_report(small_study, (), out=tmp_path / "whole", num_seeds=None, shard=(1, 1))
    out = tmp_path / "out"
    starts = [launch(small_study, out), launch(small_study, out)]
    deadline = time.monotonic() + 120
    while not (held := [path for path in out.glob("cells/*.partial") if len(path.read_bytes().splitlines()) >= 7]):
        assert all(start.poll() is None for start in starts), [start.communicate() for start in starts]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed = read_json(out / "locks" / held[0].name.replace(".jsonl.partial", ".holder"))["pid"]
    os.kill(killed, signal.SIGKILL)
    for start in starts:
        output = " ".join("".join(start.communicate(timeout=240)).split())
        assert (start.returncode == 0) == (start.pid != killed), output
    assert (out / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
    names = sorted(path.name for path in (tmp_path / "whole" / "cells").iterdir())
    assert sorted(path.name for path in (out / "cells").iterdir()) == names
    for name in names:
        assert (out / "cells" / name).read_bytes() == (tmp_path / "whole" / "cells" / name).read_bytes()


def test_trackers_get_every_number_under_the_cells_name(small_study: Path, tmp_path: Path) -> None:
    overrides = ("training.num_training_steps=8", "training.log_with=[tensorboard]", "learning_rates=[0.001]")
    study = load_study(small_study, overrides=overrides, num_seeds=1)
    assert run_study(comparison_study(study), tmp_path / "out") is not None
    [events] = {path.parent for path in (tmp_path / "out" / "trackers").rglob("events*")}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(events))
    log.Reload()
    stored = list(read_lines(run_path(tmp_path / "out", plan(study, {"digits": 8})[1].name)))
    losses = [record["loss"] for record in stored if record["kind"] == "step"]
    tag = "digits--adamw+untuned_linear_warmup--0.001--0/train/loss"
    logged = {event.step: event.value for event in log.Scalars(tag)}
    assert [logged[t] for t in range(1, 9)] == pytest.approx(losses, rel=1e-6)
