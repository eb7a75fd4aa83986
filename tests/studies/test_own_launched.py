"""A person's own Trainer where other software is the point: TRL's SFTTrainer with LoRA, and a real launcher."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import save_gpt2

from hf_warmup.records.files import read_json
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own import equipment
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.runner import run_study


TESTS = Path(__file__).parents[1]
ARMS = [
    {"name": "warm", "optimizer": "adamw", "warmup": "untuned_linear_warmup"},
    {"name": "radam", "optimizer": "radam"},
]
TWO_CPU_RANKS = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: true
num_processes: 2
num_machines: 1
machine_rank: 0
main_process_port: 0
mixed_precision: "no"
"""


def document(factory: str, metric: Any, **arguments: Any) -> dict[str, Any]:
    task = {"name": "own", "kind": "trainer", "factory": f"{TESTS / factory}:make_trainer", "margin": 0.1}
    task |= {"metric": metric, "arguments": {"max_steps": 12, "adam_beta2": 0.75, "eval_steps": 6, **arguments}}
    return {"name": "mine", "tasks": [task], "learning_rates": [0.01], "seeds": [0, 1], "arms": ARMS}


def end_at_eight(callback: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
    """Ends the process at the eighth update of a run."""
    if state.global_step == 8:
        raise KeyboardInterrupt


@pytest.mark.slow
# What TRL, peft and transformers say of one another.
@pytest.mark.filterwarnings("ignore")
def test_supervised_finetuning_with_lora_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    monkeypatch.setenv("OWN_SFT_MODEL", save_gpt2(tmp_path / "model"))
    options = {"save_steps": 5, "max_length": 16, "bf16": False, "per_device_train_batch_size": 4}
    study = comparison_study(StudyConfig.model_validate(document("scripts/own_sft.py", "loss", **options)))
    whole = run_study(study, tmp_path / "whole")
    assert whole is not None
    [task] = whole["tasks"]
    assert task["sizes"] == {"train": 24, "validation": 12, "test": 12}
    first, *_ = (run for arm in task["arms"] for run in arm["runs"])
    assert first["curve"]["multiplier"][0] == pytest.approx(1 / 8)
    assert first["curve"]["update_ratio_median"][0] == pytest.approx(1.0, abs=0.01), "Adam moves adapters alone"
    assert all(run["test"] > 0 for arm in task["arms"] for run in arm["runs"])
    with monkeypatch.context() as patch:
        patch.setattr(equipment.ArmCallback, "on_step_end", end_at_eight)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "killed")
    assert list((tmp_path / "killed" / "checkpoints").glob("*/checkpoint-5"))
    assert run_study(study, tmp_path / "killed") == whole


@pytest.mark.slow
def test_two_processes_of_accelerate_train_at_the_same_rates(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(TWO_CPU_RANKS)
    documents = []
    for processes, batch in ((1, 8), (2, 4)):
        study = tmp_path / f"study{processes}.yaml"
        written = document("helpers/own_study.py", "accuracy", per_device_train_batch_size=batch)
        study.write_text(yaml.safe_dump(written))
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "two.yaml")]
        command = [sys.executable, *(launcher if processes == 2 else []), "-m", "hf_warmup", "compare", str(study)]
        out = tmp_path / f"out{processes}"
        found = subprocess.run(
            [*command, "--out", str(out)], capture_output=True, text=True, timeout=300, check=False, env=os.environ
        )
        assert found.returncode == 0, found.stdout + found.stderr
        printed = " ".join(found.stdout.split())
        assert ("on 2 processes" in printed) == (processes == 2), "as many as the launcher was told"
        assert found.stdout.count("Report:") == 1
        documents.append(read_json(out / "results.json"))
    one, two = (found["tasks"][0] for found in documents)
    assert [arm["runs"][0]["curve"]["lr"] for arm in one["arms"]] == [
        arm["runs"][0]["curve"]["lr"] for arm in two["arms"]
    ]
    assert shape(one) == shape(two)


def shape(found: Any) -> Any:
    """A document's keys and lengths; numbers may be missing where scores allow no test."""
    if isinstance(found, dict):
        return {key: shape(value) for key, value in found.items() if not key.endswith("interval")}
    if isinstance(found, list):
        return [shape(value) for value in found]
    return type(found).__name__ if isinstance(found, str | bool) else "number or none"
