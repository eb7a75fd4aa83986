"""Wrong inputs at the border: one line, exit code 2, nothing trained and nothing written where it does not belong."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from pictures import colors_of
from safetensors.torch import save_file
from test_application import call

from hf_warmup.cli.arguments import DEFAULTS
from hf_warmup.errors import ConfigError


ENDLESS = "name: &a [*a]\n"
REPEATED = "name: twice\nname: again\n"
SMALL = ["training.num_training_steps=4", "training.on_short_run=warn"]


def cut_weights(folder: Path) -> Path:
    """A model's folder whose weights are cut short."""
    folder.mkdir()
    save_file({"a": torch.zeros(100)}, folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-50])
    (folder / "config.json").write_text('{"model_type": "certified", "num_channels": 1, "image_size": 8}')
    return folder


def with_file(folder: Path, config: str) -> Path:
    """The folder, with another config."""
    (folder / "config.json").write_text(config)
    return folder


def folder_with(folder: Path, *names: str) -> Path:
    """A folder with empty files."""
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


WRONG = '{"model_type": "certified", "id2label": [1, 2]}'


CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no layers": (lambda _: ["compare", "model.config.num_hidden_layers=-1"], "num_hidden_layers must be at least 1"),
    "no width": (lambda _: ["compare", "model.config.hidden_size=0"], "hidden_size must be at least 1"),
    "names of classes": (lambda _: ["compare", "model.config.id2label={0: a}"], "id2label follows from the data"),
    "endless run": (
        lambda _: ["compare", "training.num_training_steps=10000000000000000000000"],
        "num_training_steps",
    ),
    "endless epochs": (
        lambda _: ["compare", "training.epochs=1.0e+20", "training.num_training_steps=null"],
        "training.epochs",
    ),
    "no folder": (lambda _: ["compare", "--out", ""], "--out is empty"),
    "no folder either": (lambda _: ["train", "--out="], "--out is empty"),
    "rate inf": (lambda _: ["compare", "learning_rates=[.inf]"], "finite"),
    "rate nan": (lambda _: ["train", "training.learning_rate=.nan"], "training.learning_rate"),
    "decay nan": (lambda _: ["compare", "training.weight_decay=.nan"], "training.weight_decay"),
    "key twice": (lambda folder: ["compare", str(folder / "twice.yaml")], "'name' stands twice"),
    "contains itself": (lambda folder: ["train", str(folder / "endless.yaml")], "contains itself"),
    "key twice in a value": (lambda _: ["train", "training={epochs: 1, epochs: 2}"], "cannot be read as YAML"),
    "batch too large": (lambda _: ["compare", *SMALL, "training.batch_size=5000"], "lower training.batch_size"),
    "no number in a model": (lambda _: ["compare", "model.config.layer_norm_eps=.nan"], "model.config.layer_norm_eps"),
    "model cannot learn": (
        lambda _: ["compare", "model.config.patch_size=100"],
        "cannot be trained on these examples",
    ),
    "model returns no loss": (lambda _: ["compare", "model.config.return_dict=false"], "cannot be trained"),
    "fixed by the data": (lambda _: ["compare", "model.config.num_labels=3"], "num_labels is 10"),
    "nothing to test on": (lambda _: ["compare", "tasks.0.splits.test=0"], "tasks.0.splits.test"),
    "less than nothing": (lambda _: ["compare", "tasks.0.splits.validation=-5"], "tasks.0.splits.validation"),
    "tokens of digits": (lambda _: ["compare", "tasks.0.max_length=9"], "does not apply"),
    "folder above": (lambda _: ["compare", "name=.."], "name"),
    "folder itself": (lambda _: ["train", "arms.0.name=."], "arms.0.name"),
    "many seeds": (lambda _: ["compare", "--seeds", "99999999999"], "at most 10000"),
    "shard in other digits": (lambda _: ["compare", "--shard", "²/3"], "--shard must be i/n"),
    "out cannot be written": (lambda _: ["train", "--out", "/proc/x"], "cannot be written to"),
    "no such split": (lambda _: ["compare", "tasks.0.splits.test=holdout"], "holdout"),
    "no such split to certify": (lambda _: ["train", "data.test_split=holdout"], "splits train and test"),
    "folder of digits": (lambda _: ["train", "data.folder=x"], "does not apply"),
    "columns of digits": (lambda _: ["compare", "tasks.0.columns=[text]"], "does not apply"),
    "unknown certified field": (lambda _: ["train", "model.hiden_sizes=[8, 8]"], "known: hidden_sizes"),
    "out is a file": (lambda folder: ["train", "--out", str(folder / "twice.yaml")], "is a file"),
    "out in a file": (lambda folder: ["compare", "--out", str(folder / "twice.yaml" / "x")], "is a file"),
    "out is a model": (
        lambda folder: ["compare", "--out", str(folder_with(folder / "model", "config.json", "results.json"))],
        "holds no study, but results.json, which a study would write over",
    ),
    "out has runs of nobody": (
        lambda folder: ["train", "--out", str(folder_with(folder / "old", "cells"))],
        "holds no study, but cells",
    ),
    "junk weights": (
        lambda folder: ["import", str(folder / "twice.yaml"), "--layout", "ctrain", "--out", str(folder / "new")],
        "twice.yaml",
    ),
    "cut weights": (
        lambda folder: ["certify", str(cut_weights(folder / "cut")), "digits", "--eps", "1/10"],
        "cannot be loaded",
    ),
    "config of nothing": (
        lambda folder: ["certify", str(with_file(cut_weights(folder / "cut"), "null")), "digits", "--eps", "1/10"],
        "no config of an image classifier",
    ),
    "config of the wrong type": (
        lambda folder: ["certify", str(with_file(cut_weights(folder / "cut"), WRONG)), "digits", "--eps", "1/10"],
        "no config of an image classifier",
    ),
    "picture of no kind": (
        lambda folder: ["preview", "--num-training-steps", "3000", "--png", str(folder / "x.pgn")],
        "must end in .png",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_input_is_one_line_and_writes_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = CASES[case]
    (tmp_path / "twice.yaml").write_text(REPEATED)
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    monkeypatch.chdir(tmp_path)
    given = arguments(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, *given) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert [line for line in error if line.startswith("hf-warmup: ")] == error[-1:]
    assert expected in error[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_the_errors_of_a_script_are_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text("raise ValueError('mine')")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert call(monkeypatch, "run", str(tmp_path / "script.py")) == 1
    error = capsys.readouterr().err
    assert error.endswith("ValueError: mine\n")
    assert "hf-warmup: " not in error


def test_a_picture_goes_into_a_folder_that_is_made_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "curve.png"
    assert call(monkeypatch, "preview", "--num-training-steps", "3000", "--png", str(path)) == 0
    assert "#0072B2" in colors_of(path)


def test_no_error_shows_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("401 for https://user:hf_abcdefghijklmnopqrstuvwxyz@host")

    monkeypatch.setattr("hf_warmup.models.source.snapshot_download", refused)
    assert call(monkeypatch, "certify", "some/model", "digits", "--eps", "1/10", "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "some/model" in error
    assert "hf_abc" not in error
    assert "***" in error


HELP = """
import io, sys, contextlib
from hf_warmup.cli.application import main
for arguments in sys.stdin.read().splitlines():
    sys.argv = ["hf-warmup", *arguments.split()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as left:
            assert left.code == (0 if "--help" in arguments else 2), (arguments, left.code)
    assert not {"torch", "transformers", "datasets"} & sys.modules.keys(), arguments
"""
LIGHT = [
    "--help",
    "compare --help",
    "train --help",
    "certify --help",
    "smoothness --help",
    "preview --help",
    "run --help",
    "verdict --help",
    "package --help",
    "publish --help",
    "verify-certificate --help",
    "import --help",
    "zoo list --help",
    "zoo verify --help",
    "no-such-command",
    "compare --no-such-option",
    "compare --shard 3/2",
    "train --out /dev/null",
    "run no_such.py",
    "verdict no_such.csv --margin 0.1",
]


def test_help_and_mistakes_in_arguments_import_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", HELP], input="\n".join(LIGHT), text=True, check=True, timeout=60)


def damaged(content: bytes, seed: int) -> bytes:
    """The content cut, or with some bytes replaced, removed or doubled."""
    random = Random(seed)
    place = random.randrange(len(content))
    length = random.choice([1, 1, 8, 60])
    new = random.choice([b"", content[:place], random.randbytes(length), b"\t", b": ", b"- [{", b".nan"])
    return content[:place] + new + content[place + length :] * random.choice([1, 1, 0])


@pytest.mark.parametrize(("command", "name"), [("compare", "digits_vit.yaml"), ("train", "digits_certified.yaml")])
def test_damaged_studies_are_one_line(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def accepted(*_: object, **__: object) -> None:
        raise ConfigError("accepted")

    monkeypatch.setattr("hf_warmup.studies.comparison.study.comparison_study", accepted)
    monkeypatch.setattr("hf_warmup.data.images.load_images", accepted)
    content = (DEFAULTS / name).read_bytes()
    for seed in range(60):
        (tmp_path / name).write_bytes(damaged(content, seed))
        assert call(monkeypatch, command, str(tmp_path / name), "--out", str(tmp_path / "out")) == 2, seed
        assert "Traceback" not in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [name]
