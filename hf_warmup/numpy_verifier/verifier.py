"""A certificate checked and proven again with NumPy and the standard library alone, in a package or run by its path.

`python verifier.py certificate.json images.npz` wants the arrays `images`, uint8 (N, C, H, W), `labels`, (N,),
and `levels`, the number that is white (255 if it is missing). What a certificate claims is said in `claims`, what is
proven in `network`. Names of repositories and data sets are the one thing that is not looked up here: the files and
the images behind them are compared by their SHA-256.
"""

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier import network as bounds
    from hf_warmup.numpy_verifier.claims import FORMAT, Claims, contradictions, read_claims, told
    from hf_warmup.numpy_verifier.evidence import unproven_by_lines, unrefuted
    from hf_warmup.numpy_verifier.fields import PROCESSING
    from hf_warmup.numpy_verifier.reading import read_object
    from hf_warmup.numpy_verifier.weights import INDEX, settings_sha256, weight_files, weights_sha256
else:  # Run by its path: the files stand beside this one.
    import network as bounds  # type: ignore[import-not-found,no-redef]
    from claims import (  # type: ignore[import-not-found,no-redef]
        FORMAT,
        Claims,
        contradictions,
        read_claims,
        told,
    )
    from evidence import unproven_by_lines, unrefuted  # type: ignore[import-not-found,no-redef]
    from fields import PROCESSING  # type: ignore[import-not-found,no-redef]
    from reading import read_object  # type: ignore[import-not-found,no-redef]
    from weights import (  # type: ignore[import-not-found,no-redef]
        INDEX,
        settings_sha256,
        weight_files,
        weights_sha256,
    )


__all__ = ["FORMAT", "images_digest", "reprove"]
# The unit roundoff of float32 over that of float64, twice, as a pass in float32 may round at other places than ours.
FLOAT32_ERROR = 2.0**30
# How many times our own error a stored margin may give away: whoever made it may count roundings less sharply.
_LARGEST_SLACK = 200.0
# Files that stand beside a model and that nothing is loaded from.
_DOCUMENTS = ("certificate.json", "attack.json", "results.json", "verdicts.json", "counterexamples.npz")
_TEXTS = ("", ".md", ".txt", ".png", ".yaml")

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
# Told of a part of the work by its name, of images done and of images to do.
Tell = Callable[[str, int, int], None]
# Images between two reports of progress.
_TOLD_EVERY = 256


def reprove(
    folder: Path,
    certificate: dict[str, Any],
    images: Pixels,
    labels: Labels,
    levels: int,
    *,
    examples: int | None = None,
    code: Mapping[str, str] | None = None,
    evidence: Path | None = None,
    tell: Tell = lambda part, done, total: None,
) -> list[str]:
    """What is wrong with a certificate; nothing, if every claim in it is found again.

    Args:
        folder: weights and settings that it is about.
        certificate: as `read_object` gives it.
        images, labels: all that it is about, (N, C, H, W) and (N,).
        levels: the number that is white.
        examples: prove only the first so many again; all else is compared for all.
        code: SHA-256 of each file of code that the caller knows and that may stand beside the model; none by default.
        evidence: folder of the certificate's slopes and counterexamples; the model's by default.
        tell: told of each part of the work, of images done and of images to do.

    Raises:
        ValueError: if it cannot be checked: another format or spelling, no plain chain, files or arrays that are
            garbled.
        OSError: if a file is missing.
    """
    claims = read_claims(certificate)
    problems = [
        *contradictions(certificate, claims),
        *_other_model(folder, claims, code or {}),
        *_other_images(claims, images, labels, levels),
        *_other_processing(folder, claims),
    ]
    # Of another model or other images nothing can be proven.
    if problems:
        return problems
    network = bounds.read_network(folder)
    classes = len(network.layers[-1].bias)
    if images.shape[1:] != network.shape or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(
            f"the network takes images of shape {network.shape} and labels below {classes}, got {images.shape[1:]} "
            f"and {labels.min()} to {labels.max()}."
        )
    if not (claims.prediction < classes).all():
        return list(told(claims.prediction >= classes, f"have a prediction that is no class of {classes}"))
    some = slice(examples)
    # The division of the model's own input, rounded to float32 as there.
    pixels = (images[some].astype(np.float32) / np.float32(levels)).astype(np.float64)
    problems = [*_disproven(network, pixels, claims, some, tell), *_short(network, pixels, claims, some, tell)]
    if claims.staged:
        files = folder if evidence is None else evidence
        problems += [*unproven_by_lines(network, pixels, claims, some, files, tell)]
        problems += [*unrefuted(network, pixels, claims, some, files)]
    return problems


def images_digest(images: Pixels, levels: int) -> str:
    """SHA-256 of a line that states shape and levels, and of the bytes of the images in C order."""
    shape = "x".join(map(str, images.shape))
    return hashlib.sha256(f"uint8 {shape} levels {levels}\n".encode() + images.tobytes()).hexdigest()


def _other_model(folder: Path, claims: Claims, code: Mapping[str, str]) -> Iterator[str]:
    """Weights or settings that are not those of the certificate, and files that others might load instead."""
    weights = {file.name for file in weight_files(folder)} | {INDEX}
    if weights_sha256(folder) != claims.weights:
        yield f"{folder} has other weights than the certificate names (SHA-256)."
    found = settings_sha256(folder)
    for name in sorted(found.keys() | claims.settings.keys()):
        if found.get(name) != claims.settings.get(name):
            yield f"{folder}: {name} is not that of the certificate (SHA-256 of its content)."
    known = set()
    for file in sorted(path for path in folder.iterdir() if not path.is_dir()):
        if file.name in code and hashlib.sha256(file.read_bytes()).hexdigest() == code[file.name]:
            known.add(file.stem)
        elif file.name not in weights | found.keys() | set(_DOCUMENTS) and file.suffix not in _TEXTS:
            yield (
                f"{folder}: {file.name} is no file of the certificate, and some programs might load it: what they run "
                f"would not be what is proven."
            )
    for name in found:
        for place in _code_places(read_object(folder / name).get("auto_map")):
            if place.partition(".")[0] not in known:
                yield f"{folder}: {name} names code that cannot be vouched for here (auto_map: {place})."


def _other_processing(folder: Path, claims: Claims) -> Iterator[str]:
    """Settings that pictures were processed by which are not those of the model's image processor."""
    if claims.processing is None:
        return
    file = folder / "preprocessor_config.json"
    settings = read_object(file) if file.is_file() else {}
    for name in PROCESSING[2:]:
        if settings.get(name) != claims.processing[name]:
            yield (
                f"data.processing says {name} {claims.processing[name]!r}, but {file.name} of the model "
                f"{settings.get(name)!r}."
            )


def _code_places(auto_map: Any) -> Iterator[str]:
    """Where code would be loaded from; a text for whatever is no such place."""
    if isinstance(auto_map, dict):
        yield from (str(place) for place in auto_map.values())
    elif auto_map is not None:
        yield str(auto_map)


def _other_images(claims: Claims, images: Pixels, labels: Labels, levels: int) -> Iterator[str]:
    """Images or labels that are not those of the certificate."""
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
        raise ValueError(
            f"expected images in uint8, (N, C, H, W), and N labels; got {images.dtype} of {images.shape} and "
            f"labels of {labels.shape}."
        )
    if (images_digest(images, levels), levels) != (claims.images, claims.levels):
        yield f"the {len(images)} images are not those of the certificate (SHA-256)."
    if len(labels) != len(claims.label):
        yield f"{len(labels)} labels were given, the certificate has {len(claims.label)}."
    else:
        yield from told(labels != claims.label, "have another label than in the certificate")


def _margins(
    network: bounds.Network, pixels: bounds.Array, labels: Labels, eps: bounds.Array, tell: Callable[[int, int], None]
) -> tuple[bounds.Array, bounds.Array]:
    """As `network.margins`, which is called for a few images at a time."""
    ends = []
    for start in range(0, len(pixels), _TOLD_EVERY):
        part = slice(start, start + _TOLD_EVERY)
        ends.append(bounds.margins(network, pixels[part], labels[part], eps[part]))
        tell(min(part.stop, len(pixels)), len(pixels))
    return np.concatenate([lower for lower, _ in ends]), np.concatenate([upper for _, upper in ends])


def _disproven(
    network: bounds.Network, pixels: bounds.Array, claims: Claims, some: slice, tell: Tell
) -> Iterator[str]:
    """Verdicts, margins and predictions that NumPy contradicts.

    A stored margin is a lower bound on the exact one, so it must not exceed NumPy's upper end; it may give away what
    rounding costs, and no more. A verdict of "not proven" comes from float32, where the a priori bound on the rounding
    error is that of float64 times the ratio of their unit roundoffs; it may miss a proof by that much, and a
    prediction may be wrong by that much. The prediction of a proven image is its label, which the proof contains.
    """
    by = claims.verified_by[some]
    proven = by == "ibp"
    eps = np.full(len(pixels), claims.eps)
    lower, upper = _margins(network, pixels, claims.label[some], eps, partial(tell, "intervals"))
    error = (upper - lower) / 2
    yield from told(proven & ~(lower > 0), "are called proven, but NumPy does not prove them")
    yield from told(proven & ~(claims.margin[some] <= upper), "have a margin above what interval bounds can show")
    short = proven & ~(claims.margin[some] >= lower - _LARGEST_SLACK * error)
    yield from told(short, "have a margin below what NumPy proves")
    if not claims.staged:
        # Of several stages one that did not look, or was stopped, says nothing of an image.
        clearly = ~proven & (lower > FLOAT32_ERROR * error)
        yield from told(clearly, "are called not proven, but NumPy proves them clearly")
    others = np.flatnonzero(by == "")
    if len(others):
        predicted = claims.prediction[some][others]
        none, told_of = np.zeros(len(others)), partial(tell, "predictions")
        lower, upper = _margins(network, pixels[others], predicted, none, told_of)
        wrong = np.zeros(len(pixels), dtype=np.bool_)
        wrong[others] = ~(upper > -FLOAT32_ERROR * (upper - lower) / 2)
        yield from told(wrong, "are classified by NumPy as something else than their prediction")


def _short(network: bounds.Network, pixels: bounds.Array, claims: Claims, some: slice, tell: Tell) -> Iterator[str]:
    """Radii that NumPy does not prove."""
    radius = claims.radius[some]
    claimed = np.flatnonzero(radius > 0)
    if len(claimed):
        labels, told_of = claims.label[some][claimed], partial(tell, "radii")
        lower, _ = _margins(network, pixels[claimed], labels, radius[claimed], told_of)
        failed = np.zeros(len(pixels), dtype=np.bool_)
        failed[claimed] = ~(lower > 0)
        yield from told(failed, "have a radius within which NumPy does not prove them")


def main() -> int:
    """Exit code 0 where the proof holds, 1 where it fails, 2 for what cannot be checked."""
    parser = argparse.ArgumentParser(description="Prove a certificate again with NumPy alone.")
    parser.add_argument("certificate", type=Path, help="certificate.json")
    parser.add_argument("images", type=Path, help="npz file: images, uint8 (N, C, H, W), labels, (N,), and levels")
    parser.add_argument("--model", type=Path, help="folder of the model; the certificate's own by default")
    parser.add_argument("--examples", type=int, help="prove only the first so many again")
    options = parser.parse_args()
    try:
        with np.load(options.images, allow_pickle=False) as arrays:
            levels = int(arrays["levels"]) if "levels" in arrays else 255
            images, labels = arrays["images"], arrays["labels"]
        folder = options.model or options.certificate.parent
        certificate = read_object(options.certificate)
        given = {"examples": options.examples, "evidence": options.certificate.parent}
        problems = reprove(folder, certificate, images, labels, levels, **given)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        print(f"numpy_verifier: {error}", file=sys.stderr)
        return 2
    print(
        "\n".join(problems) or f"Proven again: {certificate['num_verified']} of {certificate['num_examples']} images."
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
