"""Certificates proven again with NumPy: an honest one holds, and every forgery is refused with its reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chains import SIZES, lively, some_images
from safetensors.torch import load_file, save_file

from hf_warmup.certified import certified_radius, parse_eps
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.certificate import images_digest, make_document, weights_digest
from hf_warmup.certified.evaluation import assess
from hf_warmup.data.images import Images
from hf_warmup.numpy_verifier import verifier as numpy_verifier
from hf_warmup.numpy_verifier.verifier import reprove
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies.certification.run import save_model


Certificate = dict[str, Any]


@pytest.mark.parametrize("levels", [16, 255])
def test_pixels_are_the_models_own(levels: int) -> None:
    levels_of_gray = torch.arange(levels + 1, dtype=torch.uint8).view(-1, 1, 1, 1)
    theirs = Images(levels_of_gray, torch.zeros(levels + 1), levels=levels).__getitems__(range(levels + 1))
    assert (levels_of_gray.numpy().astype(np.float32) / np.float32(levels) == theirs["pixel_values"].numpy()).all()


def test_both_digests_agree_and_tell_images_apart() -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    variants = [(images, 255), (images, 16), (images.view(3, 2, 2, 2), 255), (images.flip(0), 255)]
    ours = [images_digest(Images(part, torch.zeros(len(part)), levels=levels)) for part, levels in variants]
    assert ours == [numpy_verifier.images_digest(part.numpy(), levels) for part, levels in variants]
    assert len(set(ours)) == len(ours)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Images, str]:
    """A checkpoint folder with a certificate for 40 images, some proven and some not, and the images."""
    folder = tmp_path_factory.mktemp("certified")
    model = lively(7, "cnn_small", "full", **SIZES["cnn_small"])
    save_model(model, folder)
    images = some_images(7, model, 40)
    # Some that are wrong, and so cannot be proven.
    images.labels[:4] = (images.labels[:4] + 1) % 4
    batch, eps = images.__getitems__(range(40)), "1/999"
    found = assess(model, images, eps, attack=PgdConfig(steps=3, examples=20), rounding_slack=True)
    radii = certified_radius(model, batch["pixel_values"], batch["labels"], eps_max=4 * parse_eps(eps))
    write_json(folder / "certificate.json", make_document(str(folder), "random", "test", eps, images, found, radii))
    assert 5 < int(found.verified.sum()) < 35
    return folder, images, eps


def problems(made: tuple[Path, Images, str], certificate: Certificate, **changes: Any) -> list[str]:
    folder, images, _ = made
    options = {"images": images.images.numpy(), "labels": images.labels.numpy(), "levels": images.levels}
    return reprove(changes.pop("folder", folder), certificate, **{**options, **changes})


def test_certificate_is_proven_again(made: tuple[Path, Images, str]) -> None:
    certificate = read_json(made[0] / "certificate.json")
    assert problems(made, certificate) == []
    assert problems(made, certificate, examples=7) == []
    assert certificate["format"] == numpy_verifier.FORMAT
    assert float.fromhex(certificate["eps_hex"]) == certificate["eps_value"] == parse_eps("1/999")


def proven(certificate: Certificate, verdict: int) -> int:
    """The first image of this verdict that is classified rightly and that the attack left alone."""
    each = certificate["images"]
    right = (i for i, label in enumerate(each["label"]) if each["prediction"][i] == label)
    return next(i for i in right if each["verified"][i] == verdict and i not in each["attacked"])


def counted(certificate: Certificate) -> None:
    """Totals as an able forger makes them."""
    verified = certificate["images"]["verified"]
    certificate["num_verified"] = sum(verified)
    certificate["verified_accuracy"] = sum(verified) / len(verified)


def call_proven(certificate: Certificate) -> None:
    each, index = certificate["images"], proven(certificate, 0)
    each["verified"][index], each["margin"][index], each["rounding_slack"][index] = 1, 0.01, 1e-12
    counted(certificate)


def call_not_proven(certificate: Certificate) -> None:
    each = certificate["images"]
    index = int(np.argmax(each["margin"]))
    each["verified"][index], each["margin"][index] = 0, -1e-3
    counted(certificate)


def set_image(column: str, verdict: int, change: Callable[[Any], Any]) -> Callable[[Certificate], None]:
    def forge(certificate: Certificate) -> None:
        index = proven(certificate, verdict)
        certificate["images"][column][index] = change(certificate["images"][column][index])

    return forge


def set_total(name: str, change: Callable[[Any], Any]) -> Callable[[Certificate], None]:
    def forge(certificate: Certificate) -> None:
        certificate[name] = change(certificate[name])

    return forge


def larger_eps(certificate: Certificate) -> None:
    value = parse_eps("8/255")
    certificate.update(eps="8/255", eps_value=value, eps_hex=value.hex())


def rounded_down(certificate: Certificate) -> None:
    value = float(np.nextafter(certificate["eps_value"], 0))
    certificate.update(eps_value=value, eps_hex=value.hex())


def break_a_proven_one(certificate: Certificate) -> None:
    each = certificate["images"]
    place = [each["verified"][image] for image in each["attacked"]].index(1)
    each["broken"][place] = 1
    certificate["pgd_accuracy"] = 1 - sum(each["broken"]) / len(each["broken"])


FORGERIES: list[tuple[Callable[[Certificate], None], str]] = [
    (call_proven, "1 image(s) are called proven, but NumPy does not prove them"),
    (call_not_proven, "1 image(s) are called not proven, but NumPy proves them clearly"),
    (set_image("margin", 1, lambda x: x + 1e-9), "have a margin above what interval bounds can show"),
    (set_image("margin", 1, lambda x: x - 1e-9), "have a margin below what NumPy proves"),
    (set_image("margin", 0, lambda x: 1e-2), "a margin and a verdict that contradict each other"),
    (set_image("margin", 0, lambda x: x - 1), "are not proven, and have another margin than NumPy finds"),
    (set_image("margin", 1, lambda x: None), "a margin and a verdict that contradict each other"),
    (set_image("rounding_slack", 1, lambda x: 1.0), "have an impossible rounding slack"),
    (set_image("rounding_slack", 1, lambda x: None), "have an impossible rounding slack"),
    (set_image("radius", 1, lambda x: 10 * x), "have a radius within which NumPy does not prove them"),
    (set_image("radius", 0, lambda x: -0.1), "have a radius outside [0, 1]"),
    (set_image("radius", 0, lambda x: None), "have a radius outside [0, 1]"),
    (set_image("label", 0, lambda x: (x + 1) % 4), "have another label than in the certificate"),
    (set_image("prediction", 1, lambda x: (x + 1) % 4), "their prediction is not the label"),
    (break_a_proven_one, "are called proven, but were broken by the attack"),
    (set_total("num_verified", lambda x: x + 1), "num_verified is"),
    (set_total("num_examples", lambda x: x + 1), "num_examples is 41, but the images' numbers give 40"),
    (set_total("num_attacked", lambda x: x + 1), "num_attacked is 21, but the images' numbers give 20"),
    (set_total("clean_accuracy", lambda x: x + 0.05), "clean_accuracy is"),
    (set_total("verified_accuracy", lambda x: x + 0.05), "verified_accuracy is"),
    (set_total("pgd_accuracy", lambda x: x - 0.05), "pgd_accuracy is"),
    (set_total("eps", lambda x: "8/255"), "eps is 8/255 as a fraction, but"),
    (set_total("eps_hex", lambda x: (0.5).hex()), "eps is 1/999 as a fraction, but"),
    (set_total("eps", lambda x: "much"), "eps is much as a fraction, but"),
    (rounded_down, "the next float64 that is no less"),
    (larger_eps, "are called proven, but NumPy does not prove them"),
    (set_total("weights_sha256", lambda x: x[::-1]), "other weights than the certificate names"),
]


@pytest.mark.parametrize(("forge", "reason"), FORGERIES, ids=lambda value: value if isinstance(value, str) else "")
def test_forgery_is_refused(made: tuple[Path, Images, str], forge: Callable[[Certificate], None], reason: str) -> None:
    certificate = read_json(made[0] / "certificate.json")
    forge(certificate)
    assert any(reason in problem for problem in problems(made, certificate))


def test_other_weights_or_images_are_refused(made: tuple[Path, Images, str], tmp_path: Path) -> None:
    folder, images, _ = made
    certificate = read_json(folder / "certificate.json")
    changed = images.images.numpy().copy()
    changed[39, 0, 0, 0] ^= 1
    assert any("images are not those" in found for found in problems(made, certificate, images=changed))
    assert any("images are not those" in found for found in problems(made, certificate, levels=256))
    state = load_file(folder / "model.safetensors")
    state["network.0.weight"][0, 0, 0, 0] *= 1 + 2**-20
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(state, tmp_path / "model.safetensors")
    assert any("other weights" in found for found in problems(made, certificate, folder=tmp_path))
    # Hashed anew, as an able forger does: the margins no longer fit.
    certificate["weights_sha256"] = weights_digest(str(tmp_path))
    assert any("margin" in found for found in problems(made, certificate, folder=tmp_path))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: c.update(format=1), "certificates of format 2 can be proven again, got 1"),
        (lambda c: c["images"].pop("radius"), "lacks or garbles the images' numbers"),
        (lambda c: c["images"].update(rounding_slack=[]), "one number per image"),
        (lambda c: c["images"]["margin"].append(1), "one number per image"),
        (lambda c: c["images"]["verified"].__setitem__(0, 2), "verdicts in a certificate are 0 or 1"),
        (lambda c: c["images"]["attacked"].__setitem__(0, c["images"]["attacked"][1]), "must number the images"),
        (lambda c: c["images"]["attacked"].pop(), "must number the images"),
        (lambda c: c["data"].pop("images_sha256"), "lacks or garbles 'images_sha256'"),
        (lambda c: c.update(num_verified="all"), "lacks or garbles"),
        (lambda c: c.update(eps_value="0.1"), "lacks or garbles"),
    ],
)
def test_garbled_certificates_are_refused(
    made: tuple[Path, Images, str], spoil: Callable[[Certificate], None], reason: str
) -> None:
    certificate = read_json(made[0] / "certificate.json")
    spoil(certificate)
    with pytest.raises(ValueError, match=re.escape(reason)):
        problems(made, certificate)
