"""`hf-warmup train`: from the command line, killed and started again, and on two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import call
from pictures import colors_of
from safetensors.torch import load_file
from warm import Program

from hf_warmup.records.files import Record, read_lines


ROOT = Path(__file__).parents[2]
RECIPE = """
name: tiny
reproduces: nothing; it tests the program
data: {name: digits, mode: L, train_examples: 128, test_examples: 64}
model: {architecture: cnn_small, hidden_sizes: [8, 8], dense_size: 16}
eps: "1/20"
training: {epochs: 4, ramp_start: 1, ramp_epochs: 2, batch_size: 32, learning_rate: 5.0e-3, flip: true,
           checkpoint_every: 1}
pgd: {steps: 5}
arms:
  - {name: vanilla_ibp, ibp_init: false, tightness: false, relu_balance: false}
  - {name: short_warmup}
seeds: [0]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def launch_two(recipe: Path, out: Path, *arguments: str) -> str:
    config = str(ROOT / "recipes" / "accelerate" / "cpu_two_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file", config]
    command += ["-m", "hf_warmup", "train", str(recipe), *arguments, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return " ".join(done.stdout.split())


def steps(out: Path, cell: str) -> list[Record]:
    return [record for record in read_lines(out / "cells" / f"{cell}.jsonl") if record["kind"] == "step"]


def test_training_writes_models_results_and_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    assert call(monkeypatch, "train", str(recipe), "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "2 runs into" in " ".join(printed.split())
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    report = (tmp_path / "out" / "report.md").read_text()
    for arm in results["arms"]:
        assert f"{100 * arm['verified_accuracy']['mean']:.2f}" in report
    assert results["differences"][0]["arm"] == "short_warmup"
    for name in ("errors", "relu_states", "layer_health"):
        assert {"#000000", "#D55E00"} <= colors_of(tmp_path / "out" / "plots" / f"{name}.png"), "both arms"
    assert {path.name for path in (tmp_path / "out" / "models" / "short_warmup--0").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    more = ["train", str(recipe), "--out", str(tmp_path / "out"), "--seeds", "2"]
    assert call(monkeypatch, *more, "--shard", "1/2") == 0
    assert "2 runs of other shards are still missing" in " ".join(capsys.readouterr().out.split())
    assert call(monkeypatch, *more, "--shard", "1/2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"complete": False, "folder": str(tmp_path / "out")}
    assert call(monkeypatch, *more, "--json") == 0
    printed = capsys.readouterr()
    assert "4 runs into" in (progress := " ".join(printed.err.split()))
    assert "2 of them done already" in progress
    document = json.loads(printed.out)
    assert (document["complete"], document["arms"][0]["n"]) == (True, 2)
    assert call(monkeypatch, "train", str(recipe), "eps=1/10", "--out", str(tmp_path / "out")) == 2
    assert "other settings (eps)" in capsys.readouterr().err


@pytest.mark.usefixtures("no_drawing")
def test_killed_training_ends_as_an_unbroken_one(
    monkeypatch: pytest.MonkeyPatch, recipe: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    partial = out / "cells" / "short_warmup--0.jsonl.partial"
    process = Program(["-m", "hf_warmup", "train", str(recipe), "--out", str(out)])
    deadline = time.monotonic() + 120
    # Four updates and an evaluation an epoch: within the third epoch of the second run, behind a checkpoint.
    while not partial.exists() or len(list(read_lines(partial))) < 12:
        assert process.poll() is None, "the study ended before the moment to kill it"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for folder in (out, whole):
        assert call(monkeypatch, "train", str(recipe), "--out", str(folder)) == 0
    assert len(json.loads((out / "timings" / "short_warmup--0.json").read_text())["parts"]) == 2
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    for arm in ("vanilla_ibp", "short_warmup"):
        weights = f"models/{arm}--0/model.safetensors"
        assert (out / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.usefixtures("no_drawing")
def test_two_processes_train_as_one(monkeypatch: pytest.MonkeyPatch, recipe: Path, tmp_path: Path) -> None:
    # Without batch statistics and regularizers, halves of a batch on two processes are the batch on one.
    arms = "arms=[{name: plain, ibp_init: true, tightness: false, relu_balance: false, batch_norm: none}]"
    common = (arms, "training.flip=false")
    assert "on 2 processes" in launch_two(recipe, tmp_path / "two", *common, "training.batch_size=16")
    assert call(monkeypatch, "train", str(recipe), *common, "--out", str(tmp_path / "one")) == 0
    one, two = (steps(tmp_path / name, "plain--0") for name in ("one", "two"))
    assert len(one) == len(two) == 16
    for a, b in zip(one, two, strict=True):
        assert (b["lr"], b["metrics"]["eps"]) == (a["lr"], a["metrics"]["eps"]), "neither clock runs twice as fast"
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    weights = [load_file(tmp_path / name / "models" / "plain--0" / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-5)
