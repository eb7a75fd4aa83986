"""`hf-warmup certify` that is stopped goes on; several processes write what one writes; where and how many at once."""

import copy
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from warm import Program

from hf_warmup.certified import Verifier, blocks, certified_radius, certify, evaluation, placing
from hf_warmup.certified.loading import load_pair
from hf_warmup.certified.placing import fitting_batch, proof_device
from hf_warmup.cli import application as cli
from hf_warmup.cli import progress
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_split
from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


FILES = ("certificate.json", "attack.json", "counterexamples.npz")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that was trained as usual, so that every stage has something to prove."""
    torch.manual_seed(0)
    config = CertifiedConfig(architecture="mlp", hidden_sizes=[16, 16, 16], num_channels=1, image_size=8)
    network = CertifiedForImageClassification(config)
    train = load_split(DataConfig(name="digits"), "train").__getitems__(range(1500))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        network(**train).loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder)
    return folder


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    options = ["--eps", "1/30", "--examples", "100", "--pgd-steps", "2", "--batch-size", "16", *more]
    return ["certify", str(model), "digits", *options, "--out", str(out)]


def call(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["hf-warmup", *given])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def unbroken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an unbroken run writes."""
    out = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, arguments(model, out)) == 0
    by = json.loads((out / "verdicts.json").read_text())["images"]["verified_by"]
    assert {"ibp", "crown-ibp", "crown", None} <= set(by)
    return out


def assert_same(out: Path, unbroken: Path) -> None:
    for name in FILES:
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert not (out / "blocks").exists()


def test_a_run_that_is_stopped_goes_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    unbroken: Path,
    tmp_path: Path,
    no_drawing: None,
) -> None:
    write, stopped = blocks.write_bytes, 0
    left: list[int] = []

    def stop(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(blocks, "write_bytes", stop)
    # The rest of another radius lies there, and is not taken.
    left[:] = [5]
    assert call(monkeypatch, arguments(model, tmp_path, "--eps", "1/50")) == 130
    for most in (5, 8, 100):
        left[:] = [most]
        code = call(monkeypatch, arguments(model, tmp_path))
        if code == 130:
            stopped += 1
            line = capsys.readouterr().err.strip().splitlines()[-1]
            kept = tmp_path / "blocks"
            assert line == (
                f"hf-warmup: stopped. Complete blocks of images are kept in {kept}; "
                "the same command goes on from there."
            )
            assert len(list(kept.iterdir())) == 2
    assert (stopped, code) == (2, 0)
    assert_same(tmp_path, unbroken)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(model: Path, unbroken: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    program = Program(["-m", "hf_warmup", *arguments(model, tmp_path)], environment=environment, ranks=2)
    output, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors[-3000:]
    assert output.count("verified accuracy") == 1, "only the main process speaks"
    assert json.loads((tmp_path / "verdicts.json").read_text())["hardware"].startswith("2 x ")
    assert_same(tmp_path, unbroken)


def test_what_time_ended_is_kept_for_a_longer_limit(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    unbroken: Path,
    tmp_path: Path,
    no_drawing: None,
) -> None:
    assert call(monkeypatch, arguments(model, tmp_path, "--time-limit", "1e-6")) == 0
    assert f"kept in {tmp_path / 'blocks'}: the same command goes on from there" in capsys.readouterr().out
    assert json.loads((tmp_path / "certificate.json").read_text())["num_verified"] == 0
    assert call(monkeypatch, arguments(model, tmp_path)) == 0
    assert_same(tmp_path, unbroken)


def test_batches_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    _, classifier, images = load_pair(str(model), None, DataConfig(name="digits"))
    batch = images.__getitems__([0, 1])
    pixels, exact = batch["pixel_values"], copy.deepcopy(classifier).double()
    assert fitting_batch(classifier, exact, pixels) == 256
    monkeypatch.setattr(placing, "_BYTES", 2**19)
    size = fitting_batch(classifier, exact, pixels)
    assert 1 < size < 256
    assert size & (size - 1) == 0
    sizes = []
    real = Verifier.batch_margin

    def watched(self: Verifier, box: Any, *rest: Any) -> Any:
        sizes.append(len(box.pixel_values))
        return real(self, box, *rest)

    monkeypatch.setattr(Verifier, "batch_margin", watched)
    monkeypatch.setattr(placing, "_BYTES", 1)
    found = certified_radius(classifier, pixels, batch["labels"], eps_max=0.1, iterations=1, batch_size="auto")
    assert torch.equal(found, certified_radius(classifier, pixels, batch["labels"], eps_max=0.1, iterations=1))
    certify(classifier, pixels, batch["labels"], eps=0.1, method="ibp", batch_size="auto")
    assert sizes == [1] * 4 + [2] * 2 + [1] * 2
    with pytest.raises(ValueError, match='batch_size must be at least 1, or "auto", got 0'):
        certify(classifier, pixels, batch["labels"], eps=0.1, batch_size=0)


def test_a_checkpoint_is_verified_where_and_in_as_many_images_as_one_likes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []
    real = evaluation.pgd

    def watched(model: nn.Module, pixel_values: torch.Tensor, *rest: Any, **options: Any) -> Any:
        sizes.append(len(pixel_values))
        return real(model, pixel_values, *rest, **{**options, "steps": 1})

    monkeypatch.setattr(evaluation, "pgd", watched)
    name = str(Path(__file__).parents[2] / "model_cards" / "cnn-small-digits-eps0.1")
    assert call(monkeypatch, ["zoo", "verify", name, "--batch-size", "128"]) == 1, "one step breaks fewer images"
    assert sizes == [128, 128, 41]
    assert call(monkeypatch, ["zoo", "verify", name, "--device", "mps"]) == 2
    assert "prove with --device cpu" in capsys.readouterr().err


def test_a_gpu_tries_how_many_images_fit(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    _, classifier, images = load_pair(str(model), None, DataConfig(name="digits"))
    exact, image = copy.deepcopy(classifier).double(), images.__getitems__([0])["pixel_values"]
    assert placing._fits(classifier, exact, image, 4)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(placing, "pgd", full)
    assert not placing._fits(classifier, exact, image, 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "mps"], "proofs are made in float64, which Apple's GPUs do not have; prove with --device cpu"),
        (["--device", "gpu"], "--device must be auto, cpu, cuda, mps or a GPU such as cuda:1, got 'gpu'"),
        (["--batch-size", "0"], "--batch-size must be a whole number from 1 on, or auto; got '0'"),
        (["--batch-size", "some"], "or auto; got 'some'"),
    ],
)
def test_mistakes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
    options: list[str],
    expected: str,
) -> None:
    assert call(monkeypatch, arguments(model, tmp_path, *options)) == 2
    assert expected in capsys.readouterr().err.strip().splitlines()[-1]


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert proof_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no CUDA device is available; take --device cpu or auto"):
        proof_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert proof_device("auto") == torch.device("cuda")
    assert proof_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="there are only 2, from cuda:0 on"):
        proof_device("cuda:2")
    # Each of several processes has its own.
    own = SimpleNamespace(num_processes=2, device=torch.device("cuda:1"))
    monkeypatch.setattr(placing, "PartialState", lambda: own)
    assert proof_device("auto") == proof_device("cuda") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="each of several processes has a GPU of its own; take --device cuda"):
        proof_device("cuda:0")


def test_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 20.0, 40.0, 60.0, 0.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.shown(Console(highlight=False)) as tell:
        for stage, done in (("crown", 10), ("crown", 50), ("crown", 90), ("crown", 100), ("pgd", 7)):
            tell(stage, done, 100)
    assert capsys.readouterr().out == "crown: 90 of 100 images, 2.00 a second, 5 s left\n"
    monkeypatch.undo()
    console = Console(force_terminal=True, width=100, record=True)
    with progress.shown(console) as tell:
        for done in (10, 20, 40):
            tell("answers", done, 40)
    assert "answers" in capsys.readouterr().out
    with progress.shown(console) as tell:
        tell("answers", 10, 40)
    assert "10/40" in capsys.readouterr().out
