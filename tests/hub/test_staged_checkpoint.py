"""A checkpoint whose images are proven by several stages: it is packaged, checked, and proven again, also by NumPy."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_checkpoint import edit_json

from hf_warmup.certified.certificate import by_stages
from hf_warmup.certified.evaluation import assess
from hf_warmup.certified.placing import Placing
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint, load_model, load_test_images
from hf_warmup.hub.contents import check_evidence, contents_of
from hf_warmup.hub.packaging import package_checkpoint
from hf_warmup.hub.publish import prepare
from hf_warmup.hub.zoo import verify_checkpoint
from hf_warmup.numpy_verifier.evidence import COUNTEREXAMPLES, SLOPES
from hf_warmup.numpy_verifier.verifier import reprove
from hf_warmup.records.files import read_json
from hf_warmup.report.plots import proven_shares, radius_curve
from hf_warmup.studies.certification.config import CertifiedStudyConfig


@pytest.fixture(scope="module")
def staged(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same run as `made`, proven by the cascade; nobody changes it."""
    out = tmp_path_factory.mktemp("staged") / "tiny-digits-cascade"
    return package_checkpoint(made[0], "short_warmup--1", out, placing=Placing(method="cascade"))


@pytest.fixture
def copy(staged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(staged, tmp_path / staged.name))


def test_linear_bounds_prove_more_and_the_card_says_by_which_stage(made: tuple[Path, Path], staged: Path) -> None:
    check_checkpoint(staged)
    before, results = read_json(made[1] / "results.json"), read_json(staged / "results.json")
    by = results["proofs"]["num_verified_by"]
    assert by["ibp"] == before["counts"]["num_verified"] < results["counts"]["num_verified"] == sum(by.values())
    card = (staged / "README.md").read_text()
    assert f"ibp {by['ibp']}, crown-ibp {by['crown-ibp']}" in card
    assert f"Of {results['proofs']['num_falsified']} images `{COUNTEREXAMPLES}` holds a point" in card
    assert 'method="cascade"' in card
    assert "proofs" not in before


def test_it_is_proven_again(staged: Path) -> None:
    outcome = verify_checkpoint(str(staged), data_folder=None, root=Path("none"))
    assert (outcome["equal"], outcome["found"]) == (True, read_json(staged / "results.json")["counts"])
    recipe = CertifiedStudyConfig.model_validate(read_json(staged / "results.json")["recipe"])
    images = load_test_images(staged, recipe, None)
    pixels, labels = images.images.numpy(), images.labels.numpy()
    assert reprove(staged, read_json(staged / "certificate.json"), pixels, labels, images.levels) == []


def test_an_attack_that_breaks_what_linear_bounds_prove_is_an_error(staged: Path) -> None:
    recipe = CertifiedStudyConfig.model_validate(read_json(staged / "results.json")["recipe"])
    images = load_test_images(staged, recipe, None)
    model, eps = load_model(staged, images), "1/10"
    assess(model, images, eps, attack=recipe.pgd)
    with pytest.raises(RuntimeError, match="was verified and yet broken"):
        assess(model, images, eps, attack=recipe.pgd, proven=torch.ones(len(images), dtype=torch.bool))


def test_the_curve_marks_what_linear_bounds_prove(made: tuple[Path, Path], staged: Path) -> None:
    assert by_stages(read_json(made[1] / "certificate.json")) is None
    certificate = read_json(staged / "certificate.json")
    proven = by_stages(certificate)
    figure = radius_curve([0.1, 0.2], 0.15, name="x", attacked=0.9, clean=0.95, proven=proven)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert float(drawn["certified by linear bounds as well"][0]) == 100 * certificate["num_verified"] / 297
    assert "certified by intervals" in drawn


def test_the_curve_begins_at_what_is_proven_at_all_and_ends_where_the_search_ended() -> None:
    places, shares = proven_shares([0.0, 0.4, 0.1, 0.4, 0.0])
    assert (places.tolist(), shares.tolist()) == ([0.0, 0.1, 0.4], pytest.approx([60, 60, 40]))
    assert [each.tolist() for each in proven_shares([0.0, 0.0])] == [[0.0], [0.0]]


def test_whatever_the_certificate_names_is_published(staged: Path) -> None:
    _, contents = prepare(staged, "org/name", private=False, revision=None)
    assert COUNTEREXAMPLES in contents


def _own_slopes(folder: Path) -> None:
    (folder / SLOPES).parent.mkdir()
    (folder / SLOPES).write_bytes(b"anything")


def _other_file_of_proof(folder: Path) -> None:
    _own_slopes(folder)
    (folder / SLOPES).rename(folder / "proof" / "model.safetensors")


def _linked_proof(folder: Path) -> None:
    (folder / "proof").symlink_to(folder.parent)


def _more_stages(folder: Path) -> None:
    edit_json(folder, "results.json", lambda results: results["proofs"]["num_verified_by"].update(crown=99), card=True)


def _no_stages(folder: Path) -> None:
    edit_json(folder, "results.json", lambda results: results.pop("proofs"), card=True)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda folder: (folder / COUNTEREXAMPLES).unlink(), f"{COUNTEREXAMPLES} is not what certificate.json names"),
        (lambda folder: (folder / COUNTEREXAMPLES).write_bytes(b""), "is not what certificate.json names"),
        (_own_slopes, f"{SLOPES} is not what certificate.json names"),
        (_other_file_of_proof, "unexpected file proof/model.safetensors"),
        (_linked_proof, "proof is a link or a folder"),
        (_more_stages, "proofs is"),
        (_no_stages, "proofs is None"),
    ],
)
def test_tampering_is_refused(copy: Path, tamper: Callable[[Path], Any], reason: str) -> None:
    tamper(copy)
    with pytest.raises(ConfigError, match=reason):
        check_checkpoint(copy)


def test_slopes_have_a_folder_of_their_own(tmp_path: Path) -> None:
    _own_slopes(tmp_path)
    assert contents_of(tmp_path) == {SLOPES: tmp_path / SLOPES}
    check_evidence(tmp_path, {"slopes_sha256": hashlib.sha256(b"anything").hexdigest()})


def test_a_linear_proof_that_does_not_hold_is_found(copy: Path) -> None:
    """An image with a counterexample, called proven by CROWN with everything that follows from it."""
    certificate = read_json(copy / "certificate.json")
    images = certificate["images"]
    index = next(
        place
        for place, (label, found) in enumerate(zip(images["label"], images["prediction"], strict=True))
        if label == found and not images["verified"][place]
    )
    images["verified"][index], images["verified_by"][index] = 1, "crown"
    recipe = CertifiedStudyConfig.model_validate(read_json(copy / "results.json")["recipe"])
    split = load_test_images(copy, recipe, None)
    wrong = reprove(copy, certificate, split.images.numpy(), split.labels.numpy(), split.levels)
    assert any("proven" in each for each in wrong)
