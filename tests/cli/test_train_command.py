"""`hf-warmup train`: from the command line, killed and started again, and on two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_warmup.cli import application as cli
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


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hf-warmup", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def launch(recipe: Path, out: Path, *arguments: str, two: bool = False) -> subprocess.Popen[str]:
    config = str(ROOT / "recipes" / "accelerate" / "cpu_two_processes.yaml")
    accelerate = ["accelerate.commands.launch", "--main_process_port", "0", "--config_file", config, "-m"]
    command = [sys.executable, "-m", *(accelerate if two else []), "hf_warmup", "train", str(recipe), *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "--out", str(out)], env={**os.environ}, **streams)  # type: ignore[call-overload,no-any-return]


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output[-3000:]
    return " ".join(output.split())


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
        assert (tmp_path / "out" / "plots" / f"{name}.png").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "out" / "models" / "short_warmup--0").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert call(monkeypatch, "train", str(recipe), "--out", str(tmp_path / "out"), "--seeds", "2") == 0
    assert "4 runs into" in (printed := " ".join(capsys.readouterr().out.split()))
    assert "2 of them done already" in printed
    assert call(monkeypatch, "train", str(recipe), "eps=1/10", "--out", str(tmp_path / "out")) == 2
    assert "other settings (eps)" in capsys.readouterr().err


def test_killed_training_ends_as_an_unbroken_one(recipe: Path, tmp_path: Path) -> None:
    finish(launch(recipe, tmp_path / "whole"))
    out = tmp_path / "killed"

    def lines(cell: str) -> int:
        partial = out / "cells" / f"{cell}.jsonl.partial"
        return len(list(read_lines(partial))) if partial.exists() else 0

    # Four updates and an evaluation an epoch: within the second epoch of either run, behind a checkpoint.
    moments: list[Callable[[], bool]] = [lambda: lines("vanilla_ibp--0") >= 7, lambda: lines("short_warmup--0") >= 12]
    for moment in moments:
        process = launch(recipe, out)
        deadline = time.monotonic() + 120
        while not moment():
            assert process.poll() is None, "the study ended before the moment to kill it"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(launch(recipe, out))
    assert (out / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
    weights = "models/short_warmup--0/model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_two_processes_train_as_one(recipe: Path, tmp_path: Path) -> None:
    # Without batch statistics and regularizers, halves of a batch on two processes are the batch on one.
    arms = (
        "arms=[{name: plain, ibp_init: true, tightness: false, relu_balance: false, batch_norm: none}, {name: full}]"
    )
    common = (arms, "training.flip=false")
    assert "on 2 processes" in finish(launch(recipe, tmp_path / "two", *common, "training.batch_size=16", two=True))
    finish(launch(recipe, tmp_path / "one", *common))
    for cell in ("plain--0", "full--0"):
        one, two = steps(tmp_path / "one", cell), steps(tmp_path / "two", cell)
        assert len(one) == len(two) == 16
        for key in ("eps", "reg_weight"):
            assert [r["metrics"][key] for r in one] == [r["metrics"][key] for r in two]
        assert [r["lr"] for r in one] == [r["lr"] for r in two]
    plain = [steps(tmp_path / name, "plain--0") for name in ("one", "two")]
    for a, b in zip(*plain, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    health = [
        [r["health"] for r in read_lines(tmp_path / name / "cells" / "plain--0.jsonl") if r["kind"] == "evaluation"]
        for name in ("one", "two")
    ]
    widths = [torch.tensor([[layer["width"] for layer in record] for record in each]) for each in health]
    torch.testing.assert_close(widths[1], widths[0], rtol=1e-3, atol=0)
