"""The table of launchers: what it calls refused is refused with that message, and the tests that it names exist."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.utils import DistributedType

from hf_warmup import make_accelerator, train
from hf_warmup.cli.run import run_script
from hf_warmup.errors import ConfigError
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.training import TrainConfig
from hf_warmup.yaml_config import parse


ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "recipes" / "guides" / "launchers.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", TEXT, re.MULTILINE)][
    2:
]


def deepspeed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    make_accelerator()


def a_section_of_deepspeed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "script.py").touch()
    section = '{"scheduler": {"type": "WarmupLR"}}'
    run_script(folder / "script.py", ["--lr_scheduler_type", "untuned_linear_warmup", "--deepspeed", section])


def float16_of_certified_training(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    recipe = ROOT / "hf_warmup" / "studies" / "defaults" / "digits_certified.yaml"
    parse(CertifiedStudyConfig, recipe, overrides=("training.precision=fp16",))


def float16_on_a_cpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    make_accelerator(mixed_precision="fp16")


TRIALS: dict[str, Callable[[pytest.MonkeyPatch, Path], None]] = {
    "DeepSpeed cannot run this package's own loop": deepspeed,
    "section would replace --lr_scheduler_type": a_section_of_deepspeed,
    "training.precision": float16_of_certified_training,
    "mixed_precision 'fp16' is not possible on a CPU": float16_on_a_cpu,
}


def test_everything_that_is_refused_is_tried() -> None:
    verdicts = "|".join(cell for row in ROWS for cell in row[1:3])
    messages = re.findall(r"refused: `([^`]+)`", verdicts)
    assert set(messages) == set(TRIALS)
    assert verdicts.count("refused") == len(messages), "each names its message"


@pytest.mark.parametrize("message", TRIALS)
def test_what_is_refused_is_refused(message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TRIALS[message](monkeypatch, tmp_path)


def test_an_accelerator_that_was_made_for_deepspeed_is_refused() -> None:
    made: Any = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    nothing: Any = None
    with pytest.raises(ConfigError, match="transformers' Trainer"):
        next(train(made, nothing, nothing, nothing, nothing, nothing, TrainConfig(num_training_steps=1)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_works_is_shown_by_a_test(row: list[str]) -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[3])
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text()
    works = any(cell.startswith(("yes", "a skipped", "refused")) for cell in row[1:3])
    assert works == bool(row[3])
    assert tests or not works
