"""The doctor: real checkpoints are read without running anything, and each usual fault of a schedule is named."""

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hf_warmup import ConfigError
from hf_warmup.cli.doctor import facts
from hf_warmup.lr_scheduler.doctor import Run, diagnose, read_run
from hf_warmup.lr_scheduler.training_arguments import read_training_arguments


ARGUMENTS = {"learning_rate": 0.5, "adam_beta2": 0.9, "lr_scheduler_type": "untuned_linear_warmup", "warmup_steps": 0}


def rates(updates: int, *, factor: int = 1, every: int = 5, first: int = 0) -> list[tuple[int, float]]:
    """Logged rates of an untuned linear warmup with linear decay over 100 updates."""
    found = []
    for update in range(every, updates + 1, every):
        step = (update - 1 - first) * factor
        found.append((update, 0.5 * min(1.0, (step + 1) / 20) * max(0.0, 1 - step / 100)))
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a real Trainer leaves behind."""
    out = tmp_path_factory.mktemp("run")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=12,
        learning_rate=0.5,
        adam_beta2=0.75,
        lr_scheduler_type="untuned_linear_warmup",
        lr_scheduler_kwargs={"decay": "constant"},
        logging_steps=3,
        save_steps=6,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    examples = [{"input_ids": torch.tensor([i % 20, 1]), "labels": torch.tensor(i % 2)} for i in range(100)]
    Trainer(model=model, args=arguments, train_dataset=examples).train()
    return out


def test_a_real_run_is_read_and_right(checkpoint: Path) -> None:
    run = read_run(checkpoint)
    assert run.num_updates == 12
    assert dict(run.rates) == pytest.approx({3: 0.5 * 3 / 8, 6: 0.5 * 6 / 8, 9: 0.5, 12: 0.5})
    assert run.arguments["lr_scheduler_type"] == "untuned_linear_warmup"
    assert run.arguments["lr_scheduler_kwargs"] == {"decay": "constant"}
    found = diagnose(run)
    assert (found.steps_per_update, found.restarted_at, found.findings) == (1, (), ())
    assert (found.peak, found.peak_update, found.peak_share, found.untuned_updates) == (0.5, 9, 1.0, 8)
    assert read_run(checkpoint / "checkpoint-6").rates == run.rates[:2]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_scheduler_that_runs_too_fast_is_recognized(factor: int) -> None:
    found = diagnose(Run(tuple(rates(12, factor=factor, every=1)), 100, ARGUMENTS))
    assert found.steps_per_update == factor
    assert any("too short" in words for words in found.findings) == (factor > 1)


def test_a_resumption_that_begins_anew_is_recognized() -> None:
    found = diagnose(Run((*rates(50), *[rate for rate in rates(90, first=50) if rate[0] > 50]), 100, ARGUMENTS))
    assert found.restarted_at == (50,)
    assert found.steps_per_update == 1
    assert "After update 50" in found.findings[0]


def test_what_is_not_known_is_not_guessed() -> None:
    other = tuple((update, 0.1 + 0.001 * update) for update in range(1, 9))
    assert diagnose(Run(other, 100, ARGUMENTS)).findings[0].startswith("The logged rates are not those")
    bare = diagnose(Run(other, 5000, {}))
    assert (bare.steps_per_update, bare.peak_share, bare.findings) == (None, None, ())


def test_three_epochs_of_rte() -> None:
    """234 updates under Adam's usual beta2: the rate peaks at 2.95 % of what was asked for."""
    given = {**ARGUMENTS, "adam_beta2": 0.999}
    logged = tuple((t, 0.5 * t / 2000 * (1 - (t - 1) / 234)) for t in range(1, 235))
    words = " ".join(diagnose(Run(logged, 234, given)).findings)
    assert "2.95 % of what was asked for" in words
    assert "takes 2000 updates, and the run has 234" in words


def test_a_warmup_that_was_shortened_is_well() -> None:
    """The same run with a cap warms up for 23.4 updates."""
    given = {**ARGUMENTS, "adam_beta2": 0.999, "lr_scheduler_kwargs": {"on_short_run": "cap"}}
    logged = tuple((t, 0.5 * min(1.0, t / 23.4) * (1 - (t - 1) / 234)) for t in range(1, 235))
    run = Run(logged, 234, given)
    assert diagnose(run).findings == ()
    words = dict(facts(run, diagnose(run)))
    assert words["an untuned warmup takes"].endswith('on_short_run="cap" shortens it')
    assert "warmup_steps asked for" not in words


class Harmful:
    """A pickle that would leave a file behind if anything of it were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_stored_file_is_run(tmp_path: Path) -> None:
    torch.save(Harmful(tmp_path / "made"), tmp_path / "training_args.bin")
    with pytest.raises(ConfigError, match="holds no TrainingArguments"):
        read_training_arguments(tmp_path / "training_args.bin")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_other_files_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "training_args.bin"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\x02c")
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as training arguments"):
        read_training_arguments(path)


def test_command(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "doctor", str(checkpoint)) == 0
    printed = capsys.readouterr().out
    assert "Nothing is wrong with this schedule." in printed
    assert "8 updates, 66.7 % of the run" in printed
    assert call(monkeypatch, "doctor", str(checkpoint), "--json") == 0
    assert math.isclose(json.loads(capsys.readouterr().out)["peak"], 0.5)
    assert call(monkeypatch, "doctor", str(tmp_path)) == 2
    assert "no trainer_state.json" in capsys.readouterr().err
    for state in ("{", '{"max_steps": 3}', "[]", '{"max_steps": 3, "log_history": [{"step": 1}]}'):
        (tmp_path / "trainer_state.json").write_text(state)
        assert call(monkeypatch, "doctor", str(tmp_path)) == 2
        assert "trainer_state.json" in capsys.readouterr().err


def test_env_names_what_a_report_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "env", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"] == torch.__version__
    assert "untuned_linear_warmup" in found["registered schedules"]
    assert call(monkeypatch, "env") == 0
    assert "transformers" in capsys.readouterr().out
