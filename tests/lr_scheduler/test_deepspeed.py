"""Real DeepSpeed on one CPU process: whatever calls its ZeRO stages make, an update is one update of the warmup."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_traces import SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_counts_updates(stage: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    config = {
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }
    (tmp_path / "zero.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "hf_warmup", "run", str(SCRIPTS / "unmodified.py")]
    command += ["--output_dir", str(tmp_path / "out"), "--lr_scheduler_type", "untuned_linear_warmup"]
    command += ["--max_steps", "8", "--adam_beta2", "0.75", "--learning_rate", "1e-3", "--save_strategy", "no"]
    command += ["--deepspeed", str(tmp_path / "zero.json"), "--lr_scheduler_kwargs", '{"decay": "constant"}']
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rates = json.loads(done.stdout.split("rates ")[1].splitlines()[0])
    assert rates == pytest.approx([1e-3 * t / 8 for t in range(1, 9)], rel=1e-12)
