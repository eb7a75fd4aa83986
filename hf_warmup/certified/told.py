"""What a complete verifier of somebody else says, added to a certificate under that program's own name.

Its counterexamples are checked as our own are, and then stand on their own. What it calls unsat is only told: it is
proven by nobody here, and never counted.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hf_warmup.bounds.box import box_of
from hf_warmup.certified.certificate import images_digest
from hf_warmup.certified.staged import points_file
from hf_warmup.certified.verifier import Verifier
from hf_warmup.certified.vnnlib import Told
from hf_warmup.data.images import Images
from hf_warmup.errors import ConfigError
from hf_warmup.numpy_verifier.claims import STAGED, contradictions, read_claims
from hf_warmup.numpy_verifier.evidence import COUNTEREXAMPLES
from hf_warmup.records.files import Record, write_bytes, write_json


# How far a counterexample may lie outside the box, as programs in float32 print it; it is moved to the edge.
_BESIDE = 1e-6


@dataclass
class Added:
    """What became of a program's answers: the certificate, and reasons why some were not taken, by image."""

    certificate: Record
    refused: dict[int, str] = field(default_factory=dict)


def add_verdicts(
    folder: Path, certificate: Record, tool: str, told: Iterable[Told], pair: tuple[nn.Module, Images]
) -> Added:
    """Add a program's answers to a certificate, in place of earlier ones of the same name; store it and its points.

    Args:
        folder: of the certificate and its counterexamples.
        certificate: as read from there.
        tool: the program's name.
        told: its answers.
        pair: the certificate's model, in eval mode, and images.

    Raises:
        ConfigError: for a certificate by intervals alone, other images, or an answer that contradicts a proof.
    """
    if certificate.get("format") != STAGED:
        raise ConfigError(
            f"answers are added to certificates of format {STAGED}; `hf-warmup certify --method cascade` writes one."
        )
    claims = read_claims(certificate)
    if wrong := next(contradictions(certificate, claims), None):
        raise ConfigError(f"the certificate does not hold: {wrong}")
    model, images = pair
    if images_digest(images) != certificate["data"]["images_sha256"]:
        raise ConfigError("the images are not those of the certificate (SHA-256).")
    verifier, points = Verifier(model), _points(folder, certificate)
    added = Added(certificate)
    verdicts: dict[str, list[int]] = {"unsat": [], "sat": [], "timeout": []}
    for each in sorted(told, key=lambda one: one.image):
        reason = _refused(each, verifier, images, claims.eps, points)
        if reason is not None:
            added.refused[each.image] = reason
            continue
        _check_agreement(each, certificate, points, tool)
        verdicts[each.verdict].append(each.image)
    if any(verdicts.values()):
        certificate["told_by"] = {**certificate["told_by"], tool: verdicts}
    _store(folder, certificate, points)
    return added


def _refused(each: Told, verifier: Verifier, images: Images, eps: float, points: dict[int, Tensor]) -> str | None:
    """Why an answer is not taken; a counterexample that is taken joins the points."""
    if each.image >= len(images):
        return f"the certificate has {len(images)} images"
    if each.verdict != "sat":
        return None
    if each.point is None:
        return "sat without a counterexample"
    batch = images.__getitems__([each.image])
    pixels, label = batch["pixel_values"].double(), batch["labels"]
    if each.point.numel() != pixels.numel():
        return f"a counterexample of {each.point.numel()} pixels, not {pixels.numel()}"
    point = each.point.view_as(pixels)
    box = box_of(pixels, eps)
    inside = box.nearest(point)
    beside = float((point - inside).abs().max())
    if not beside <= _BESIDE:
        return f"a counterexample outside the radius by {beside:.2g}"
    if not bool(verifier.refutes(inside, box, label)[0]):
        return "a counterexample that is not surely misclassified in float64"
    points.setdefault(each.image, inside[0])
    return None


def _check_agreement(each: Told, certificate: Record, points: dict[int, Tensor], tool: str) -> None:
    stage = certificate["images"]["verified_by"][each.image]
    if each.verdict == "sat" and stage is not None:
        raise ConfigError(
            f"image {each.image} is proven by {stage}, and {tool}'s counterexample refutes it in float64: one of both "
            "is wrong. Nothing was written."
        )
    if each.verdict == "unsat" and each.image in points:
        raise ConfigError(
            f"image {each.image} is unsat to {tool}, but a counterexample is stored. Nothing was written."
        )


def _points(folder: Path, certificate: Record) -> dict[int, Tensor]:
    """The stored counterexamples, by image."""
    if certificate["counterexamples_sha256"] is None:
        return {}
    data = (folder / COUNTEREXAMPLES).read_bytes()
    if hashlib.sha256(data).hexdigest() != certificate["counterexamples_sha256"]:
        raise ConfigError(f"{folder / COUNTEREXAMPLES} is not the file of the certificate (SHA-256).")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        pairs = zip(arrays["index"].tolist(), torch.from_numpy(arrays["pixel_values"]), strict=True)
        return dict(pairs)


def _store(folder: Path, certificate: Record, points: dict[int, Tensor]) -> None:
    images, order = certificate["images"], sorted(points)
    images["falsified"] = [int(image in points) for image in range(len(images["label"]))]
    certificate["num_falsified"] = len(points)
    certificate["num_unknown"] = certificate["num_examples"] - certificate["num_verified"] - len(points)
    if points:
        content = points_file(torch.stack([points[image] for image in order]), torch.tensor(order))
        certificate["counterexamples_sha256"] = hashlib.sha256(content).hexdigest()
        write_bytes(folder / COUNTEREXAMPLES, content)
    write_json(folder / "certificate.json", certificate)
