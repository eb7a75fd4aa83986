"""What `hf-warmup certify` does: a model and images in; a proof per image, a table and the radius curve out."""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import torch
import transformers
from rich.console import Console
from torch import Tensor, nn
from transformers import AutoConfig

from hf_warmup.assessment import EVALUATION_BATCH, Assessment, assess
from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.certified import certified_radius, parse_eps
from hf_warmup.certified.certify import VERIFIER
from hf_warmup.certified_config import DataConfig, PgdConfig
from hf_warmup.errors import ConfigError
from hf_warmup.image_data import Images, load_split
from hf_warmup.pixel_classifier import load_classifier
from hf_warmup.plots import radius_curve, save_figure
from hf_warmup.precision import float32_arithmetic
from hf_warmup.provenance import versions
from hf_warmup.records import Record, write_json
from hf_warmup.statistics import clopper_pearson


def certify_and_report(
    model: str,
    data: str,
    *,
    eps: str,
    split: str,
    examples: int | None,
    largest_eps: str | None,
    steps: int,
    restarts: int,
    out: Path,
) -> None:
    """Certify a classifier on a split; write `certificate.json` and `radius.png` into `out`.

    Args:
        model: folder or Hub name.
        data: "digits", Hub name or folder.
        eps: radius, such as "8/255".
        split: of the data set.
        examples: only the first so many images.
        largest_eps: the largest radius tried for each image; 4 eps by default.
        steps, restarts: of the attack.
        out: folder, made if it does not exist.

    Raises:
        ConfigError: for anything that cannot be loaded or certified.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    console = Console(highlight=False, soft_wrap=True)
    try:
        largest = min(1.0, 4 * parse_eps(eps)) if largest_eps is None else parse_eps(largest_eps)
        if not 0 < parse_eps(eps) <= largest:
            raise ConfigError(f"--eps must be positive and at most --largest-eps, got {eps} and {largest:g}.")
        images = load_split(DataConfig(name=data, mode=_mode(model), test_split=split, test_examples=examples), "test")
        _, channels, size, _ = images.images.shape
        classifier = load_classifier(model, image_size=size, num_channels=channels)
        with console.status(f"certifying {len(images)} images at {eps}"):
            found = assess(
                classifier, images, eps, attack=PgdConfig(steps=steps, restarts=restarts), rounding_slack=True
            )
        with console.status("looking for the largest radius of each image"):
            radii = radii_of(classifier, images, largest)
    except UnsupportedOperation as error:
        raise ConfigError(f"{model}: {error}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    document = make_document(model, data, split, eps, images, found, radii)
    document["attack"] = {"steps": steps, "restarts": restarts}
    write_json(out / "certificate.json", document)
    clean, attacked = document["clean_accuracy"], document["pgd_accuracy"]
    figure = radius_curve(radii.tolist(), parse_eps(eps), name=Path(model).name, attacked=attacked, clean=clean)
    save_figure(figure, out / "radius.png")
    for line in summary(document):
        console.print(line)
    console.print(f"Proofs, image by image: {out / 'certificate.json'}\nRadius curve: {out / 'radius.png'}")


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
            "broken": [] if found.broken is None else found.broken.int().tolist(),
            "radius": radii.tolist(),
            "rounding_slack": [] if found.rounding_slack is None else found.rounding_slack.tolist(),
        },
    }


def summary(document: Record) -> list[str]:
    """What a person reads."""
    low, high = (100 * end for end in document["verified_interval"])
    radii = np.array(document["images"]["radius"])
    return [
        f"{document['model']} on {document['num_examples']} images of {document['data']['name']}, "
        f"split {document['data']['split']}, eps {document['eps']}:",
        f"  clean accuracy     {100 * document['clean_accuracy']:6.2f} %",
        f"  accuracy under PGD {100 * document['pgd_accuracy']:6.2f} %   (no more than this can be true)",
        f"  verified accuracy  {100 * document['verified_accuracy']:6.2f} %   (proven; 95 % interval of the "
        f"population {low:.2f} to {high:.2f})",
        f"  certified radius   median {np.median(radii):.4g}, largest {radii.max():.4g}",
    ]


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


def _mode(model: str) -> Literal["L", "RGB"]:
    """How pictures are to be read: gray for models of one channel."""
    try:
        channels = getattr(AutoConfig.from_pretrained(model), "num_channels", 3)
    except (OSError, ValueError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise ConfigError(f"{model}: no config of an image classifier can be loaded ({first}).") from None
    return "L" if channels == 1 else "RGB"
