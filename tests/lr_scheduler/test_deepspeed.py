"""Real DeepSpeed on one CPU process: whatever calls its ZeRO stages make, an update is one update of the warmup."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_traces import SCRIPTS

from hf_warmup.lr_scheduler.loss_adaptive import loss_multiplier


def rates_under(config: dict[str, Any] | None, schedule: list[str], folder: Path) -> list[float]:
    """Learning rates of eight updates of a Trainer's script, under DeepSpeed where there is a config."""
    command = [sys.executable, "-m", "hf_warmup", "run", str(SCRIPTS / "unmodified.py"), *schedule]
    command += ["--output_dir", str(folder / "out"), "--learning_rate", "1e-3", "--max_steps", "8"]
    command += ["--adam_beta2", "0.75", "--save_strategy", "no"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    if config is None:
        command += ["--use_cpu", "true"]
    else:
        (folder / "zero.json").write_text(json.dumps(config))
        command += ["--deepspeed", str(folder / "zero.json")]
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[float] = json.loads(done.stdout.split("rates ")[1].splitlines()[0])
    return found


def zero(stage: int) -> dict[str, Any]:
    """A config of one of DeepSpeed's stages."""
    return {
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_counts_updates(stage: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    options = '{"decay": "constant"}'
    schedule = ["--lr_scheduler_type", "untuned_linear_warmup", "--lr_scheduler_kwargs", options]
    rates = rates_under(zero(stage), schedule, tmp_path)
    assert rates == pytest.approx([1e-3 * t / 8 for t in range(1, 9)], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_gives_a_loss_adaptive_warmup_its_losses(stage: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    options = '{"kappa": 9.0, "handover_updates": 20}'
    schedule = ["--lr_scheduler_type", "constant_with_loss_adaptive_warmup", "--lr_scheduler_kwargs", options]
    rates = rates_under(zero(stage), schedule, tmp_path)
    assert rates == pytest.approx(rates_under(None, schedule, tmp_path), rel=1e-6)
    without_losses = [1e-3 * loss_multiplier(1.0, kappa=9.0 * (1 - t / 20), rho=1.0) for t in range(8)]
    assert rates[0] == pytest.approx(without_losses[0], rel=1e-12)
    assert rates[7] != pytest.approx(without_losses[7], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["untuned_linear_warmup", "cosine"])
def test_a_script_that_is_started_without_run_is_refused_too(name: str, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    config = {**zero(1), "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}}}
    code = (
        "import hf_warmup, json, sys; from transformers import TrainingArguments; "
        f"TrainingArguments('out', lr_scheduler_type={name!r}, deepspeed=json.loads(sys.argv[1])); print('made')"
    )
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29612"}
    environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    command = [sys.executable, "-c", code, json.dumps(config)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    if name == "cosine":
        assert "made" in done.stdout, done.stderr[-3000:]
    else:
        # Once there is a process group, torch names the rank before each line of a traceback.
        told = done.stderr.splitlines()[-1].removeprefix("[rank0]: ")
        assert told.startswith("hf_warmup.errors.ConfigError: the `scheduler` section")
