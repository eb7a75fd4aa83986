"""A study of two seeds on the digits and the checkpoint that is packaged from it; and how to tamper with one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from hf_warmup.certified.certificate import weights_digest
from hf_warmup.data.images import load_images
from hf_warmup.hub.checkpoint import HASHED, counts_of, curve_of, scores_of
from hf_warmup.hub.contents import file_digest
from hf_warmup.hub.packaging import package_checkpoint
from hf_warmup.records.files import read_json, write_json
from hf_warmup.report.card import render_card
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.study import certified_study
from hf_warmup.studies.runner import run_study
from hf_warmup.yaml_config import parse


STUDY = """
name: tiny
reproduces: nothing; it tests the program
data: {name: digits, mode: L, train_examples: 1024, test_examples: 100}
model: {architecture: cnn_small, hidden_sizes: [8, 8], dense_size: 16}
eps: "1/50"
training: {epochs: 5, ramp_start: 1, ramp_epochs: 2, batch_size: 32, learning_rate: 1.0e-2}
pgd: {steps: 5, examples: 200}
arms:
  - {name: short_warmup}
seeds: [0, 1]
"""


def train_study(text: str, folder: Path, *overrides: str) -> Path:
    """The study's folder, as `hf-warmup train` leaves it but for the report."""
    folder.mkdir(parents=True)
    recipe = folder.parent / f"{folder.name}.yaml"
    recipe.write_text(text)
    study = parse(CertifiedStudyConfig, recipe, overrides=overrides)
    results = run_study(certified_study(study, load_images(study.data)), folder)
    write_json(folder / "results.json", results)
    return folder


def make_checkpoint(base: Path) -> tuple[Path, Path]:
    """The study's folder and the checkpoint of its seed 1; whoever changes anything works on a copy."""
    study, checkpoint = base / "made" / "tiny", base / "made" / "zoo" / "tiny-digits"
    with FileLock(base / "made.lock"):
        if not checkpoint.exists():
            package_checkpoint(train_study(STUDY, study), "short_warmup--1", checkpoint)
    return study, checkpoint


def edit(folder: Path, name: str, before: str, after: str) -> None:
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after, 1))


def edit_json(folder: Path, name: str, change: Callable[[dict[str, Any]], Any], *, card: bool = False) -> None:
    document = read_json(folder / name)
    change(document)
    write_json(folder / name, document)
    if card:
        (folder / "README.md").write_text(render_card(read_json(folder / "results.json")))


def restate(folder: Path) -> None:
    """Make results and card follow from the folder's other files, as a forger would."""
    digest = weights_digest(str(folder))
    edit_json(folder, "certificate.json", lambda document: document.update(weights_sha256=digest))

    def follow(results: dict[str, Any]) -> None:
        certificate, attack = (read_json(folder / name) for name in ("certificate.json", "attack.json"))
        counts = counts_of(certificate, attack)
        results.update(counts=counts, scores=scores_of(counts), radii=curve_of(certificate), weights_sha256=digest)
        results["files_sha256"] = {name: file_digest(folder / name) for name in HASHED}

    edit_json(folder, "results.json", follow, card=True)
