"""Certificates proven again with NumPy: an honest one holds, and every forgery is refused with its reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forging import Certificate, problems

from hf_warmup.certified import parse_eps
from hf_warmup.certified.certificate import images_digest
from hf_warmup.certified.verifier import VERIFIER
from hf_warmup.data.images import Images
from hf_warmup.numpy_verifier import verifier as numpy_verifier
from hf_warmup.numpy_verifier.claims import METHODS
from hf_warmup.numpy_verifier.proportions import is_interval
from hf_warmup.records.files import read_json
from hf_warmup.statistics.proportions import clopper_pearson


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


def test_certificate_is_proven_again(made: tuple[Path, Images, str]) -> None:
    certificate = read_json(made[0] / "certificate.json")
    assert problems(made, certificate) == []
    assert problems(made, certificate, examples=7) == []
    assert certificate["format"] == numpy_verifier.FORMAT
    assert float.fromhex(certificate["eps_hex"]) == certificate["eps_value"] == parse_eps("1/999")


def proven(certificate: Certificate, verdict: int) -> int:
    """The first image of this verdict that is classified right."""
    each = certificate["images"]
    right = (label == found for label, found in zip(each["label"], each["prediction"], strict=True))
    return next(i for i, fine in enumerate(right) if fine and each["verified"][i] == verdict)


def counted(certificate: Certificate) -> None:
    """Totals as an able forger makes them."""
    each, count = certificate["images"], certificate["num_examples"]
    clean = sum(label == found for label, found in zip(each["label"], each["prediction"], strict=True))
    certificate.update(num_clean=clean, clean_accuracy=clean / count)
    verified = sum(each["verified"])
    certificate.update(num_verified=verified, verified_accuracy=verified / count)
    certificate["verified_interval"] = list(clopper_pearson(verified, count))


def call_proven(certificate: Certificate) -> None:
    each, index = certificate["images"], proven(certificate, 0)
    each["verified"][index], each["margin"][index], each["radius"][index] = 1, 0.01, certificate["eps_value"]
    counted(certificate)


def call_not_proven(certificate: Certificate) -> None:
    each = certificate["images"]
    index = int(np.argmax([-1.0 if margin is None else margin for margin in each["margin"]]))
    each["verified"][index], each["margin"][index], each["radius"][index] = 0, None, 0.0
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
    verified = certificate["images"]["verified"]
    certificate["images"]["radius"] = [value if each else 0.0 for each in verified]


def rounded_down(certificate: Certificate) -> None:
    value = float(np.nextafter(certificate["eps_value"], 0))
    certificate.update(eps_value=value, eps_hex=value.hex())


def all_right(certificate: Certificate) -> None:
    certificate["images"]["prediction"] = list(certificate["images"]["label"])
    counted(certificate)


def all_wrong(certificate: Certificate) -> None:
    """Every prediction that no proof contains, set to another class."""
    each = certificate["images"]
    each["prediction"] = [
        found if verified else (found + 1) % 4
        for found, verified in zip(each["prediction"], each["verified"], strict=True)
    ]
    each["radius"] = [
        radius if verified else 0.0 for radius, verified in zip(each["radius"], each["verified"], strict=True)
    ]
    counted(certificate)


FORGERIES: list[tuple[Callable[[Certificate], None], str]] = [
    (call_proven, "1 image(s) are called proven, but NumPy does not prove them"),
    (call_not_proven, "1 image(s) are called not proven, but NumPy proves them clearly"),
    (set_image("margin", 1, lambda x: x + 1e-9), "have a margin above what interval bounds can show"),
    (set_image("margin", 1, lambda x: x - 1e-9), "have a margin below what NumPy proves"),
    (set_image("margin", 1, lambda x: -x), "are called proven, but their margin is not positive"),
    (set_image("radius", 1, lambda x: 10 * x), "have a radius within which NumPy does not prove them"),
    (set_image("radius", 1, lambda x: 0.0), "are proven at eps, but their radius is smaller"),
    (set_image("radius", 0, lambda x: 0.5), "are not proven at eps, but their radius says so"),
    (set_image("radius", 0, lambda x: -0.1), "have a radius outside [0, 1]"),
    (all_right, "are classified by NumPy as something else than their prediction"),
    (all_wrong, "are classified by NumPy as something else than their prediction"),
    (set_total("verified_interval", lambda x: [x[0], 1.0]), "which is not the exact 95 % interval"),
    (set_total("num_clean", lambda x: x + 1), "num_clean is"),
    (set_image("label", 0, lambda x: (x + 1) % 4), "have another label than in the certificate"),
    (set_image("prediction", 1, lambda x: (x + 1) % 4), "their prediction is not the label"),
    (set_total("num_verified", lambda x: x + 1), "num_verified is"),
    (set_total("num_examples", lambda x: x + 1), "num_examples is 41, but the images' numbers give 40"),
    (set_total("clean_accuracy", lambda x: x + 0.05), "clean_accuracy is"),
    (set_total("verified_accuracy", lambda x: x + 0.05), "verified_accuracy is"),
    (larger_eps, "are called proven, but NumPy does not prove them"),
    (set_total("weights_sha256", lambda x: x[::-1]), "other weights than the certificate names"),
]


@pytest.mark.parametrize(("forge", "reason"), FORGERIES, ids=lambda value: value if isinstance(value, str) else "")
def test_forgery_is_refused(made: tuple[Path, Images, str], forge: Callable[[Certificate], None], reason: str) -> None:
    certificate = read_json(made[0] / "certificate.json")
    forge(certificate)
    assert any(reason in problem for problem in problems(made, certificate))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c: c.update(format=2), "certificates of format 3 or 4 can be proven again, got 2"),
        (lambda c: c["images"].pop("radius"), "images lacks radius"),
        (lambda c: c.update(pgd_accuracy=1.0), "a certificate has unknown pgd_accuracy"),
        (lambda c: c["images"].update(radius=[]), "one number per image"),
        (lambda c: c["images"]["margin"].append(1), "one number per image"),
        (lambda c: c["images"]["margin"].__setitem__(c["images"]["verified"].index(0), -1.0), "null where it is 0"),
        (
            lambda c: c["images"]["margin"].__setitem__(c["images"]["verified"].index(1), None),
            "a number where verified",
        ),
        (lambda c: c["images"]["verified"].__setitem__(0, 2), "images.verified must hold integers from 0 to 1"),
        (lambda c: c["images"]["verified"].__setitem__(0, True), "images.verified must hold integers from 0 to 1"),
        (lambda c: c["data"].pop("images_sha256"), "data lacks images_sha256"),
        (lambda c: c.update(norm="L1"), "norm must be 'Linf"),
        (lambda c: c.update(method="guess"), "method must be one of ibp"),
        (lambda c: c.update(eps_value="0.1"), "eps_value is '0.1'"),
        (lambda c: c.update(eps="8/255"), "eps 8/255 is 0.03"),
        (lambda c: c.update(eps_hex=(0.5).hex()), "eps_hex '0x1.0"),
        (rounded_down, "the next float64 that is no less"),
        *(
            (lambda c, eps=eps: c.update(eps=eps), "eps must be a fraction in lowest terms")  # type: ignore[misc]
            for eps in (
                "much",
                "١/٩٩٩",
                "1_0/9_990",
                "2/1998",
                "0.001",
                "1/0",
                "01/999",
                " 1/999",
                "1/999\n",
                "+1/999",
                1,
            )
        ),
    ],
)
def test_garbled_certificates_are_refused(
    made: tuple[Path, Images, str], spoil: Callable[[Certificate], None], reason: str
) -> None:
    certificate = read_json(made[0] / "certificate.json")
    spoil(certificate)
    with pytest.raises(ValueError, match=re.escape(reason)):
        problems(made, certificate)


def test_the_sentences_are_those_of_the_verifier() -> None:
    assert METHODS["ibp"] == VERIFIER


@pytest.mark.parametrize(("proven", "count"), [(0, 7), (7, 7), (3, 7), (1, 1), (264, 297), (9523, 10000)])
def test_intervals_are_scipys(proven: int, count: int) -> None:
    low, high = clopper_pearson(proven, count)
    assert is_interval([low, high], proven, count)
    assert not is_interval([low + 1e-6, high], proven, count)
    assert not is_interval([low, high - 1e-6], proven, count)
    assert not is_interval([low, high], proven + 1, count + 2)
