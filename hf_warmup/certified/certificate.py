"""The documents about a model: a certificate, which holds claims that others can check, and what an attack found.

Deliberately absent from the certificate is whatever nobody can compute again: the attack's outcome, margins of images
that are not proven, names of models that are folders, versions and times. `hf_warmup.numpy_verifier.claims` says what
is in it.
"""

import hashlib
import math
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_warmup.certified import Certificate, certified_radius, parse_eps
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Blocks, Progress
from hf_warmup.certified.evaluation import BOUNDED_BATCH, EVALUATION_BATCH, Assessment
from hf_warmup.data.images import Images
from hf_warmup.data.splits import drawn
from hf_warmup.models.source import ModelSource
from hf_warmup.numpy_verifier.claims import CLAIM, FORMAT, METHODS, NORM, STAGED
from hf_warmup.records.files import Record
from hf_warmup.records.provenance import hardware, versions
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.training.precision import float32_arithmetic


def make_document(
    source: ModelSource, data: str, split: str, eps: str, images: Images, found: Assessment, radii: Tensor
) -> Record:
    """The certificate, as it is stored; model and images are named by their SHA-256.

    A plain chain's can be proven again by `hf-warmup verify-certificate`.
    """
    radius, exact = parse_eps(eps), Fraction(eps)
    count, clean, proven = len(found.verified), int(found.clean.sum()), int(found.verified.sum())
    # The search for radii need not try eps itself; what is proven at eps holds there, and what is not, not beyond it.
    least = found.verified.double() * radius
    most = torch.where(found.verified, 1.0, math.nextafter(radius, 0.0)).double() * found.clean
    looked = int((~radii.isnan()).sum())
    return {
        "format": FORMAT,
        "claim": CLAIM,
        "norm": NORM,
        "method": "ibp",
        "verifier": METHODS["ibp"],
        "eps": str(exact),
        # The float64 that bounds are computed with, never rounded down.
        "eps_value": radius,
        "eps_hex": radius.hex(),
        "model": {
            "repository": source.repository,
            "revision": source.revision,
            "settings_sha256": source.settings_sha256,
        },
        "weights_sha256": source.weights or weights_digest(str(source.folder)),
        "data": {
            "name": data,
            "split": images.split or split,
            **({} if images.subset is None else {"subset": images.subset}),
            "images_sha256": images_digest(images),
            "levels": images.levels,
            **({} if images.processing is None else {"processing": dict(images.processing)}),
        },
        "num_examples": count,
        "num_clean": clean,
        "num_verified": proven,
        "clean_accuracy": clean / count,
        "verified_accuracy": proven / count,
        "verified_interval": list(clopper_pearson(proven, count)),
        **({} if looked == count else {"num_radii": looked}),
        "images": {
            "label": images.labels.tolist(),
            "prediction": found.predictions.tolist(),
            "verified": found.verified.int().tolist(),
            "margin": [
                margin if verified else None
                for margin, verified in zip(found.margin.tolist(), found.verified.tolist(), strict=True)
            ],
            "radius": [None if math.isnan(each) else each for each in radii.double().clamp(least, most).tolist()],
        },
    }


def attack_document(eps: str, found: Assessment, attack: PgdConfig) -> Record:
    """What an attack found, image by image, null where it was not tried; nobody can check that it was carried out."""
    broken: list[int | None] = [None] * len(found.verified)
    if found.broken is not None:
        for index, here in zip(drawn(len(broken), attack.examples).tolist(), found.broken.int().tolist(), strict=True):
            broken[index] = here
    tried = [each for each in broken if each is not None]
    return {
        "format": 1,
        "about": "what an attack found; it proves nothing, and can only be repeated",
        "eps": str(Fraction(eps)),
        "attack": attack.model_dump(exclude={"every_epoch"}),
        "num_attacked": len(tried),
        "num_broken": sum(tried),
        "pgd_accuracy": (len(tried) - sum(tried)) / len(tried) if tried else None,
        "broken": broken,
        "versions": versions(),
    }


def verdicts_document(certificate: Record, method: str, found: Certificate) -> Record:
    """What a method of `certify` found, image by image; nobody but this package checks it.

    Args:
        certificate: the document of the same images at the same radius.
        method: of `certify`.
        found: what it returned.
    """
    assert found.falsified is not None
    assert found.predictions is not None
    count, proven, falsified = len(found.method), int(found.verified.sum()), int(found.falsified.sum())
    stages = [
        {
            "name": name,
            "num_images": found.looked.get(name, 0),
            "num_verified": found.method.count(name),
            "seconds_per_image": seconds / found.looked[name] if found.looked.get(name) else None,
            "stopped": found.stopped.get(name),
        }
        for name, seconds in found.seconds.items()
    ]
    return {
        "format": 1,
        "about": "what each stage of the verifier found; a stage that stopped early leaves its images unknown",
        **{key: certificate[key] for key in ("eps", "model", "weights_sha256", "data", "num_examples")},
        "method": method,
        "verifier": found.verifier,
        "num_verified": proven,
        "num_falsified": falsified,
        "num_unknown": count - proven - falsified,
        "verified_accuracy": proven / count,
        "verified_interval": list(clopper_pearson(proven, count)),
        "relative_width": None if math.isnan(found.relative_width) else found.relative_width,
        "unrelaxed": list(found.unrelaxed),
        "stages": stages,
        "images": {
            "prediction": found.predictions.tolist(),
            "verified_by": list(found.method),
            "falsified": found.falsified.int().tolist(),
            "margin": found.margin.tolist(),
        },
        "hardware": hardware(),
        "versions": versions(),
    }


def attack_contradictions(certificate: Record, attack: Record) -> list[str]:
    """Numbers of an attack that cannot be, whatever it did."""
    images, broken = certificate["images"], attack["broken"]
    if len(broken) != len(images["label"]) or any(each not in (0, 1, None) or each is True for each in broken):
        return ["attack.json must say 0, 1 or null of each image of certificate.json."]
    tried = [each for each in broken if each is not None]
    share = (len(tried) - sum(tried)) / len(tried) if tried else None
    expected = {"num_attacked": len(tried), "num_broken": sum(tried), "pgd_accuracy": share, "eps": certificate["eps"]}
    wrong = [
        f"attack.json says {key} {attack[key]}, expected {value}."
        for key, value in expected.items()
        if attack[key] != value
    ]
    for index, (each, label, found, proven) in enumerate(
        zip(broken, images["label"], images["prediction"], images["verified"], strict=True)
    ):
        if each == 1 and proven:
            wrong.append(f"image {index} is called proven, but was broken by the attack.")
        if each == 0 and label != found:
            wrong.append(f"image {index} is misclassified, so an attack cannot have left it alone.")
    return wrong


def weights_digest(model: str) -> str | None:
    """SHA-256 over a folder's safetensors files, in order of their names; None for a model that is not a folder."""
    files = sorted(Path(model).glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def images_digest(images: Images) -> str:
    """SHA-256 of a line that states shape and levels, and of the bytes of the images in C order."""
    pixels = images.images.numpy()
    line = f"{pixels.dtype} {'x'.join(map(str, pixels.shape))} levels {images.levels}\n"
    return hashlib.sha256(line.encode() + pixels.tobytes()).hexdigest()


@float32_arithmetic()
def radii_of(
    model: nn.Module,
    images: Images,
    largest: float,
    *,
    examples: int | None = None,
    batch_size: int = EVALUATION_BATCH,
    blocks: Blocks | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """A radius up to `largest` within which each image's answer is proven, (N,) in float64; see `certified_radius`.

    Args:
        model, images: as `assess`.
        largest: in pixel units.
        examples: only of so many images, drawn by a fixed seed; NaN stands for the others.
        batch_size, blocks, progress: as `assess`.
    """
    device, some = next(model.parameters()).device, drawn(len(images), examples)

    def find(chosen: Tensor) -> dict[str, Tensor]:
        batch = {name: part.to(device) for name, part in images.__getitems__(some[chosen]).items()}
        size = min(BOUNDED_BATCH, batch_size)
        found = certified_radius(model, batch["pixel_values"], batch["labels"], eps_max=largest, batch_size=size)
        return {"radius": found}

    radii = torch.full((len(images),), math.nan, dtype=torch.float64)
    radii[some] = (blocks or Blocks()).whole("radii", len(some), batch_size, find, progress)["radius"]
    return radii


def radii_in(certificate: Record) -> list[float]:
    """The radii of a certificate, of the images that they were looked for."""
    return [radius for radius in certificate["images"]["radius"] if radius is not None]


def by_stages(certificate: Record) -> float | None:
    """The share that a certificate proves by more than intervals; None for intervals alone."""
    return float(certificate["verified_accuracy"]) if certificate["format"] == STAGED else None
