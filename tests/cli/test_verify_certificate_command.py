"""`hf-warmup verify-certificate`, and the same by the path of one file where neither torch nor this package exist."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from chains import SIZES, lively

from hf_warmup.cli.certify import certify_and_report
from hf_warmup.cli.verify_certificate import verify_certificate_and_report
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_split
from hf_warmup.errors import ConfigError
from hf_warmup.models import source
from hf_warmup.numpy_verifier import verifier as numpy_verifier
from hf_warmup.numpy_verifier.weights import settings_sha256, weights_sha256
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies.certification.run import save_model


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with what `hf-warmup certify` writes about 60 digits."""
    folder = tmp_path_factory.mktemp("digits")
    sizes = {"num_channels": 1, "image_mean": [0.3], "image_std": [0.4], "num_labels": 10}
    save_model(lively(7, "cnn_small", "full", **{**SIZES["cnn_small"], **sizes, "image_size": 8}), folder)
    options = {"split": "test", "largest_eps": None, "steps": 2, "restarts": 1, "examples": 60}
    certify_and_report(str(folder), "digits", eps="1/2000", out=folder, **options)
    return folder


def verify(certificate: Path, **options: Any) -> None:
    verify_certificate_and_report(certificate, **{"model": None, "data": None, "examples": None, **options})


def test_command_on_what_certify_wrote(of_digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    verify(of_digits / "certificate.json")
    certificate = read_json(of_digits / "certificate.json")
    count = certificate["num_verified"]
    assert count > 0
    assert f"Holds: {count} of 60 images of digits, split test, are proven at eps 1/2000." in capsys.readouterr().out
    verify(of_digits, examples=5, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["holds"], found["problems"], found["num_verified"]) == (True, [], count)
    assert (found["num_examples"], found["num_proven_again"]) == (60, 5)
    verify(of_digits, examples=5)
    assert "the first 5 of them were proven again" in capsys.readouterr().out
    certificate["images"]["margin"][certificate["images"]["verified"].index(1)] += 1
    write_json(tmp_path / "forged.json", certificate)
    shutil.copyfile(of_digits / "counterexamples.npz", tmp_path / "counterexamples.npz")
    with pytest.raises(typer.Exit) as left:
        verify(tmp_path / "forged.json", model=str(of_digits))
    assert left.value.exit_code == 1
    printed = capsys.readouterr().out
    assert printed.startswith("Does not hold")
    assert "have a margin above what interval bounds can show" in printed


def test_command_compares_the_interval(of_digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    certificate = read_json(of_digits / "certificate.json")
    certificate["verified_interval"] = [0.9, 1.0]
    write_json(tmp_path / "forged.json", certificate)
    with pytest.raises(typer.Exit):
        verify(tmp_path / "forged.json", model=str(of_digits))
    assert "verified_interval is [0.9, 1.0], which is not the exact 95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("certificate", "options", "reason"),
    [
        ("{}", {}, "certificates of format 3 or 4 can be proven again, got None"),
        ("{", {}, "no JSON"),
        (None, {}, "No such file"),
    ],
)
def test_command_refuses_what_cannot_be_checked(
    tmp_path: Path, of_digits: Path, certificate: str | None, options: dict[str, Any], reason: str
) -> None:
    if certificate is not None:
        (tmp_path / "certificate.json").write_text(certificate)
    with pytest.raises(ConfigError, match=reason):
        verify(tmp_path / "certificate.json", **{"model": str(of_digits), **options})


def test_command_needs_the_model(of_digits: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model.*--model FOLDER"):
        verify(of_digits, model="nowhere")


def test_command_refuses_other_data(of_digits: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        verify(of_digits, data="no/such-data")


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "hf_warmup", "safetensors", "transformers", "scipy"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


def run_by_path(blocked: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The file run by its path, where neither torch nor this package can be imported."""
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    command = [sys.executable, numpy_verifier.__file__, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(blocked)}
    )


def test_runs_by_its_path_without_torch(of_digits: Path, tmp_path: Path) -> None:
    images = load_split(DataConfig(name="digits", mode="L", test_examples=60), "test")
    arrays = {"images": images.images.numpy(), "labels": images.labels.numpy(), "levels": np.array(images.levels)}
    np.savez(tmp_path / "images.npz", **arrays)
    files = [str(of_digits / "certificate.json"), str(tmp_path / "images.npz")]
    blocked = tmp_path / "blocked"
    done = run_by_path(blocked, *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Proven again: {read_json(of_digits / 'certificate.json')['num_verified']} of 60 images.\n"
    assert "certificate.json" in run_by_path(blocked, "--help").stdout
    # The blocker works: in the same surroundings the package is not there.
    command = [sys.executable, "-c", "import hf_warmup"]
    without = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(blocked)})
    assert b"hf_warmup is blocked" in without.stderr
    np.savez(tmp_path / "images.npz", **{**arrays, "levels": np.array(17)})
    other = run_by_path(blocked, *files)
    assert other.returncode == 1
    assert "images are not those of the certificate" in other.stdout
    (tmp_path / "images.npz").write_text("nothing")
    assert run_by_path(blocked, *files).returncode == 2


def test_a_model_of_the_hub_is_known_by_its_commit(
    of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client's cache as it is: links, and files that the certificate does not name."""
    commit, asked = "0123456789" * 4, []
    cache = tmp_path / "snapshots" / commit
    cache.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (cache / name).symlink_to(of_digits / name)
    (cache / "pytorch_model.bin").touch()

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any("bin" in pattern or pattern == "*" for pattern in allow_patterns)
        if name != "lab/digits" or revision not in (None, commit):
            raise FileNotFoundError("no such repository or commit")
        return str(cache)

    monkeypatch.setattr(source, "snapshot_download", snapshot)
    options = {"split": "test", "largest_eps": None, "steps": 1, "restarts": 1, "examples": 20}
    certify_and_report("lab/digits", "digits", eps="1/2000", out=tmp_path / "out", **options)
    certificate = read_json(tmp_path / "out" / "certificate.json")
    assert certificate["model"] == {
        "repository": "lab/digits",
        "revision": commit,
        "settings_sha256": settings_sha256(of_digits),
    }
    assert certificate["weights_sha256"] == weights_sha256(of_digits)
    verify(tmp_path / "out")
    assert asked == [("lab/digits", None), ("lab/digits", commit)]
    assert "was not looked up" not in capsys.readouterr().out
    verify(tmp_path / "out", model=str(of_digits))
    assert f"Whether lab/digits holds this model at {commit} was not looked up" in capsys.readouterr().out
    for model in ({"repository": "lab/other"}, {"revision": "f" * 40}):
        write_json(tmp_path / "forged.json", {**certificate, "model": {**certificate["model"], **model}})
        with pytest.raises(ConfigError, match="no such repository or commit"):
            verify(tmp_path / "forged.json")
