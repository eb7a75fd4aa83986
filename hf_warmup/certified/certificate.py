"""The certificate as a document: what was proven of which images, by which weights, at which radius."""

import hashlib
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_warmup.certified import certified_radius, parse_eps
from hf_warmup.certified.evaluation import EVALUATION_BATCH, Assessment
from hf_warmup.certified.verifier import VERIFIER
from hf_warmup.data.images import Images
from hf_warmup.data.splits import drawn
from hf_warmup.records.files import Record
from hf_warmup.records.provenance import versions
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.training.precision import float32_arithmetic


def make_document(
    model: str, data: str, split: str, eps: str, images: Images, found: Assessment, radii: Tensor
) -> Record:
    """Everything that was found, as it is stored; weights and images are named by their SHA-256.

    With `assess(..., rounding_slack=True)` it can be proven again by `hf-warmup verify-certificate`.
    """
    counts = found.counts()
    radius = parse_eps(eps)
    return {
        "format": 2,
        "model": Path(model).name if Path(model).exists() else model,
        "weights_sha256": weights_digest(model),
        "data": {
            "name": Path(data).name if Path(data).exists() else data,
            "split": split,
            "images_sha256": images_digest(images),
            "levels": images.levels,
        },
        "eps": str(Fraction(eps)),
        # The float64 that bounds are computed with, never rounded down.
        "eps_value": radius,
        "eps_hex": radius.hex(),
        "norm": "Linf, pixels in [0, 1], cut to [0, 1]",
        "verifier": VERIFIER,
        "versions": versions(),
        **counts,
        **found.accuracies(),
        "verified_interval": list(clopper_pearson(counts["num_verified"], counts["num_examples"])),
        "images": {
            "label": images.labels.tolist(),
            "prediction": found.predictions.tolist(),
            "margin": found.margin.tolist(),
            "verified": found.verified.int().tolist(),
            **_attack(found),
            "radius": radii.tolist(),
            "rounding_slack": [] if found.rounding_slack is None else found.rounding_slack.tolist(),
        },
    }


def _attack(found: Assessment) -> Record:
    """Verdicts of the attack, and the numbers of the images that they are about where these are not all."""
    if found.broken is None:
        return {"broken": []}
    count, attacked = len(found.clean), len(found.broken)
    which = {} if attacked == count else {"attacked": drawn(count, attacked).tolist()}
    return {**which, "broken": found.broken.int().tolist()}


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
def radii_of(model: nn.Module, images: Images, largest: float) -> Tensor:
    """A radius up to `largest` within which each image's answer is proven, (N,) in float64; see `certified_radius`."""
    device = next(model.parameters()).device
    found = []
    for chosen in torch.split(torch.arange(len(images)), EVALUATION_BATCH):
        batch = {name: part.to(device) for name, part in images.__getitems__(chosen).items()}
        found.append(certified_radius(model, batch["pixel_values"], batch["labels"], eps_max=largest).cpu())
    return torch.cat(found)
