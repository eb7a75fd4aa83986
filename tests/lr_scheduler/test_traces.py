"""Real loops use the closed form's learning rates: Trainer and Accelerate, one process and two, resumed and not."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from warm import Program


SCRIPTS = Path(__file__).parents[1] / "scripts"
EXPECTED = [min(1.0, k / 10) * (1 - (k - 1) / 20) for k in range(1, 21)]
ENVIRONMENT = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(count: int, *arguments: str) -> str:
    """Output of a program on some ranks, without a launcher."""
    program = Program([*arguments], environment=ENVIRONMENT, ranks=count)
    output, errors = program.communicate()
    assert program.returncode == 0, errors[-3000:]
    return output


def launch(count: int, *arguments: str, timeout: int = 120) -> str:
    """The same by a new interpreter, or torch's own launcher."""
    launcher = [sys.executable]
    if count > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(count)]
        launcher += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    process = subprocess.Popen(
        [*launcher, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        # Asked to end, torch's launcher ends its ranks as well; killed outright, it would leave them behind.
        process.terminate()
        process.communicate()
        raise
    assert process.returncode == 0, errors[-3000:]
    return output


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_loop_uses_the_closed_form(world_size: int, tmp_path: Path) -> None:
    start(world_size, str(SCRIPTS / "traces.py"), str(tmp_path), str(world_size))
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world_size)]
    assert len(list(tmp_path.glob("*.json"))) == world_size
    for found in ranks:
        assert len(found["rates"]) == 13
        for name, rates in found["rates"].items():
            assert rates == pytest.approx(EXPECTED, rel=1e-12), name
        # Not the learning rate alone: loss and gradient norm are those of all ranks together, on every rank.
        assert found["records"] == ranks[0]["records"]
        assert len({record["loss"] for record in found["records"]}) == 20


@pytest.mark.parametrize(
    ("world_size", "run"), [(1, launch), (2, start), pytest.param(2, launch, marks=pytest.mark.slow)]
)
def test_an_unmodified_script_takes_the_name_as_a_flag(
    world_size: int, run: Callable[..., str], tmp_path: Path
) -> None:
    flags = ["--output_dir", str(tmp_path), "--lr_scheduler_type", "cosine_with_untuned_linear_warmup"]
    flags += [
        "--max_steps",
        "3",
        "--adam_beta2",
        "0.8",
        "--learning_rate",
        "1.0",
        "--use_cpu",
        "--disable_tqdm",
        "true",
    ]
    output = run(world_size, "-m", "hf_warmup", "run", str(SCRIPTS / "unmodified.py"), *flags)
    assert f"world size {world_size}" in output
    assert "scheduler WarmupScheduler" in output
    rates = json.loads(output.split("rates ")[1].splitlines()[0])
    cosine = [k / 10 * (1 + math.cos(math.pi * (k - 1) / 3)) / 2 for k in (1, 2, 3)]
    assert rates == pytest.approx(cosine, rel=1e-12)


def test_killed_trainer_goes_on_with_the_same_rates(tmp_path: Path) -> None:
    command = ["-m", "hf_warmup", "run", str(SCRIPTS / "unmodified.py")]
    command += ["--output_dir", str(tmp_path), "--lr_scheduler_type", "untuned_linear_warmup", "--use_cpu"]
    command += ["--max_steps", "20", "--adam_beta2", "0.8", "--learning_rate", "1.0", "--save_steps", "4"]
    process = Program([*command, "--slow", "0.1"], environment=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint-8" / "trainer_state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    output = start(1, *command, "--resume_from_checkpoint", str(tmp_path / "checkpoint-8"))
    rates = json.loads(output.split("rates ")[1].splitlines()[0])
    assert rates == pytest.approx(EXPECTED[8:], rel=1e-12)
