"""Runs on a lent machine: every command of the list as it is written, on tiny models."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from recipe_scripts import load
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_warmup.cli import application as cli
from hf_warmup.models.saving import store_model
from hf_warmup.records.files import read_json, read_lines
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


ROOT = Path(__file__).parents[2]
LINES = (ROOT / "recipes" / "gpu" / "commands.txt").read_text().splitlines()
COMMANDS = [line.split(maxsplit=2) for line in LINES if line and not line.startswith("#")]
TRAIN = ["training.epochs=3", "training.ramp_start=1", "training.ramp_epochs=1", "training.milestones=[2]"]
TRAIN += ["training.batch_size=16", "training.evaluate_every=1", "training.checkpoint_every=1", "pgd.steps=2"]
TRAIN += ["model.architecture=cnn_small", "model.hidden_sizes=[4, 4]", "model.dense_size=8"]
COMPARE = ["training.epochs=null", "training.num_training_steps=2", "training.on_short_run=warn", "seeds=[0]"]
COMPARE += ["training.batch_size=4", "learning_rates=[1.0e-3]", "tuned_warmup_steps=1", "tasks.0.splits.validation=4"]
COMPARE += ["arms=[{name: adamw, optimizer: adamw}, {name: radam, optimizer: radam}]"]
TINY = {"train": TRAIN, "compare": COMPARE, "package": []}
WORDS = ["warm", "up", "is", "what", "decides"]
OURS = "cifar10_eps8_255_160_short_warmup"
# Hands its arguments to the test's own process, which has everything imported.
SHIM = """#!{python} -IS
import json, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({place!r})
    connection.sendall(json.dumps([{name!r}, *sys.argv[1:]]).encode() + b"\\n")
    sys.exit(int(connection.makefile().readline()))
"""
REAL = """#!/bin/sh
exec {python} -m hf_warmup "$@" {overrides}
"""


pack = load("gpu/pack.py")
tables = load("certified/tables.py")


def command_of(label: str) -> str:
    [command] = [command for name, _, command in COMMANDS if name == label]
    return command


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make_images(folder: Path, shape: tuple[int, ...], column: str) -> None:
    drawn = np.random.default_rng(0)
    folder.mkdir(parents=True)
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    for split, count in (("train", 48), ("test", 12)):
        pictures = [Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)) for _ in range(count)]
        made = datasets.Dataset.from_dict(
            {column: pictures, "label": [i % 10 for i in range(count)]}, features=features
        )
        made.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def make_texts(folder: Path, column: str, splits: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for split in splits:
        texts = [" ".join(WORDS[(i + k) % 5] for k in range(3)) for i in range(24)]
        datasets.Dataset.from_dict({column: texts, "label": [i % 2 for i in range(24)]}).to_parquet(
            folder / f"{split}-00000-of-00001.parquet"
        )


def make_bert(package: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(package / "model")
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(package / "model")
    (package / "__init__.py").write_text("")


class Machines:
    """Home and a lent machine, as folders; what is carried between them is shared."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, str(root / "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.place)
        self.listener.listen(8)
        self.listener.settimeout(0.02)
        for name in ("hf-warmup", "python"):
            program(root / "bin" / name, SHIM.format(python=sys.executable, place=self.place, name=name))
        overrides = " ".join(f"'{override}'" for override in TRAIN)
        program(root / "real" / "hf-warmup", REAL.format(python=sys.executable, overrides=overrides))

    def variables(self, where: str, programs: str = "bin") -> dict[str, str]:
        at = self.root / where
        places = {"DATA": at / "data", "RUNS": at / "runs", "SITE": at / "site", "PIECES": self.root / "carried"}
        places |= {"OUT": self.root / "carried", "MINILM": self.root / "home" / "minilm"}
        places |= {"RESULTS": at / "results", "CARDS": at / "cards"}
        path = f"{self.root / programs}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **{name: str(each) for name, each in places.items()}, "PATH": path}

    def start(self, command: str, where: str, programs: str = "bin") -> subprocess.Popen[str]:
        options: Any = {"cwd": ROOT, "env": self.variables(where, programs), "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", "-c", command], stderr=subprocess.STDOUT, **options)

    def run(self, command: str, where: str) -> int:
        """Run a command by bash, its Python programs in this process."""
        shell = self.start(command, where)
        while shell.poll() is None:
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection, connection.makefile() as words:
                connection.sendall(f"{call(*json.loads(words.readline()))}\n".encode())
        shell.communicate()
        return int(shell.returncode)


def call(name: str, *arguments: str) -> int:
    if name == "python":
        return int((pack if arguments[0].endswith("pack.py") else tables).main(list(arguments[1:])))
    before, sys.argv = sys.argv, ["hf-warmup", *arguments, *TINY[arguments[0]]]
    try:
        cli.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    found = Machines(tmp_path_factory.mktemp("machines"))
    data = found.root / "home" / "data"
    make_images(data / "cifar10", (32, 32, 3), "img")
    make_images(data / "mnist", (28, 28), "image")
    make_texts(data / "trec", "text", ("train", "test"))
    make_texts(data / "sst2", "sentence", ("train", "validation", "test"))
    make_bert(found.root / "home" / "minilm")
    yield found
    found.listener.close()


def blank(figure: Figure, place: Any, **options: Any) -> None:
    """Draws nothing."""


def interrupt(machines: Machines, label: str, lines: int) -> str:
    """Start a command in processes of its own, and let its time run out when its run has so many records."""
    shell = machines.start(command_of(label), "lent", "real")
    partial = machines.root / "lent" / "runs" / OURS / "cells" / "short_warmup--0.jsonl.partial"
    deadline = time.monotonic() + 60
    while not partial.exists() or len(list(read_lines(partial))) < lines:
        assert shell.poll() is None, shell.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    # bash has become what it was told to run: timeout, which takes its own alarm for the end of the 540 s.
    assert Path(f"/proc/{shell.pid}/comm").read_text() == "timeout\n"
    os.kill(shell.pid, signal.SIGALRM)
    output = shell.communicate(timeout=60)[0]
    assert shell.returncode == 124, output
    return output


def test_every_command_runs_and_an_interrupted_one_goes_on(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [label for label, *_ in COMMANDS]
    assert len(set(labels)) == len(labels)
    home, lent = machines.root / "home", machines.root / "lent"
    monkeypatch.chdir(ROOT)
    # Pictures are tested elsewhere, and cost more than the runs.
    monkeypatch.setattr(Figure, "savefig", blank)
    monkeypatch.syspath_prepend(str(lent / "site"))
    for label, where, command in COMMANDS:
        if label == "run1-first":
            assert "the same command goes on" in interrupt(machines, label, lines=6)
            assert not (lent / "runs" / OURS / "results.json").exists()
            assert any((lent / "runs" / OURS / "checkpoints").rglob("step_*"))
        assert machines.run(command, where) == 0, label
        if label == "run1-first":
            assert machines.run(command.replace("$RUNS", "$RUNS/unbroken"), where) == 0
            whole = lent / "runs" / "unbroken" / OURS
            assert (lent / "runs" / OURS / "results.json").read_bytes() == (whole / "results.json").read_bytes()
            weights = "models/short_warmup--0/model.safetensors"
            assert (lent / "runs" / OURS / weights).read_bytes() == (whole / weights).read_bytes()
            timing = read_json(lent / "runs" / OURS / "timings" / "short_warmup--0.json")
            assert len(timing["parts"]) == 2
    check_results(home, lent)


def check_results(home: Path, lent: Path) -> None:
    both = read_json(home / "results" / "certified" / "cifar10_eps8_255_160" / "results.json")
    ours = read_json(home / "results" / "certified" / OURS / "results.json")
    assert [(arm["name"], arm["n"]) for arm in both["arms"]] == [("vanilla_ibp", 3), ("short_warmup", 3)]
    assert both["arms"][1] == ours["arms"][0], "the runs of the method are not made twice"
    for name in ("mnist_eps0.4", "cifar10_eps8_255_240", "cifar10_eps2_255"):
        assert {arm["n"] for arm in read_json(home / "results" / "certified" / name / "results.json")["arms"]} == {3}
    minilm = read_json(home / "results" / "compare" / "minilm" / "results.json")
    assert [task["name"] for task in minilm["tasks"]] == ["trec", "sst2"]
    assert "verdicts" in minilm["tasks"][0]
    for path in sorted((lent / "runs" / "mnist_eps0.4" / "cells").iterdir()):
        assert (home / "runs" / "mnist_eps0.4" / "cells" / path.name).read_bytes() == path.read_bytes()
    for name in ("cnn7-cifar10-eps8-255", "cnn7-mnist-eps0.4"):
        assert "bfloat16" in (home / "cards" / name / "README.md").read_text()
    for at in (home, lent):
        store_model(at / "runs" / OURS / "models" / "short_warmup--0", at / "stored", dtype="bfloat16")
    for name in pack.files_of(lent / "stored"):
        same = (home / "stored" / name).read_bytes() == (lent / "stored" / name).read_bytes()
        assert same, "rounding on the way changes no checkpoint"
    written = (home / "runs" / "tables.md").read_text()
    assert written.count("| not run |") > 10, "tiny runs are not the papers' settings"
    assert "| mnist_eps0.4 | vanilla_ibp | ylecun/mnist | 0.4 | cnn_small | 3 | 3 |" in written


def test_commands_say_what_they_should() -> None:
    for label, where, command in COMMANDS:
        assert where in ("home", "lent"), label
        if "hf-warmup train" in command or "hf-warmup compare" in command:
            assert where == "lent"
            assert "timeout -s INT 540 hf-warmup" in command, "a call must end within nine minutes"
        for place in re.findall(r"recipes/\S+", command):
            assert (ROOT / place).is_file(), place
    assert {name for label, *_ in COMMANDS if (name := label[:4]) in ("run1", "run2", "run3", "run4", "run5")} == {
        f"run{number}" for number in range(1, 6)
    }


def test_the_method_alone_is_the_second_arm_of_both() -> None:
    folder = ROOT / "recipes" / "certified"
    both, ours = (parse(CertifiedStudyConfig, folder / f"{name}.yaml") for name in ("cifar10_eps8_255_160", OURS))
    assert ours.arms == [both.arms[1]]
    same = {"name": both.name, "reproduces": both.reproduces, "arms": both.arms}
    assert ours.model_copy(update=same) == both


@pytest.mark.parametrize(
    ("recipe", "epochs", "ramp", "milestones"),
    [
        ("cifar10_eps8_255_160", 160, (1, 80), [120, 140]),
        ("cifar10_eps8_255_240", 240, (1, 120), [200, 220]),
        ("cifar10_eps2_255", 160, (1, 80), [120, 140]),
        ("mnist_eps0.4", 70, (0, 20), [50, 60]),
    ],
)
def test_schedules_are_those_of_the_papers(
    recipe: str, epochs: int, ramp: tuple[int, int], milestones: list[int]
) -> None:
    study = parse(CertifiedStudyConfig, ROOT / "recipes" / "certified" / f"{recipe}.yaml")
    training = study.training
    assert (training.epochs, training.milestones) == (epochs, milestones)
    assert (training.ramp_start, training.ramp_epochs) == ramp
    # A slow card takes 64 s for an epoch on CIFAR-10, and a call 540 s with its start.
    assert training.checkpoint_every == training.evaluate_every
    assert training.checkpoint_every is not None
    assert 64 * training.checkpoint_every < 400
    assert (training.precision == "tf32") == recipe.startswith("cifar10")
    assert (training.l1_weight, training.robust_weight) == (
        (1e-6, 0.8) if "2_255" in recipe[-5:] and "eps2" in recipe else (0, 1)
    )
    assert training.precise_batch_norm == (recipe in ("cifar10_eps8_255_240", "cifar10_eps2_255"))
