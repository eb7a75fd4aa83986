"""A certificate checked and proven again with NumPy and the standard library alone, in a package or run by its path.

`python verifier.py certificate.json images.npz` wants the arrays `images`, uint8 (N, C, H, W), `labels`, (N,),
and `levels`, the number that is white (255 if it is missing). What is proven is said in `network`. The attack's
numbers can be compared among themselves only, and the interval about the verified accuracy is not looked at here.
"""

import argparse
import hashlib
import math
import sys
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier import network as bounds
    from hf_warmup.numpy_verifier.weights import weights_sha256
else:  # Run by its path: the files stand beside this one.
    import network as bounds  # type: ignore[import-not-found,no-redef]
    from weights import weights_sha256  # type: ignore[import-not-found,no-redef]


FORMAT = 2
# The unit roundoff of float32 over that of float64, twice, as a pass in float32 may round at other places than ours.
FLOAT32_ERROR = 2.0**30
# How many times our own error a stored slack may be: whoever made it may count roundings less sharply.
_LARGEST_SLACK = 100.0
_COLUMNS = ("label", "prediction", "margin", "verified", "radius", "rounding_slack")

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


def reprove(
    folder: Path,
    certificate: dict[str, Any],
    images: Pixels,
    labels: Labels,
    levels: int,
    *,
    examples: int | None = None,
) -> list[str]:
    """What is wrong with a certificate; nothing, if NumPy proves every verdict and radius in it again.

    Args:
        folder: weights and config.json that it is about.
        certificate: as `read_object` gives it.
        images, labels: all that it is about, (N, C, H, W) and (N,).
        levels: the number that is white.
        examples: prove only the first so many again; all else is compared for all.

    Raises:
        ValueError: if it cannot be checked: another format, no plain chain, files or arrays that are garbled.
        OSError: if a file is missing.
    """
    columns = _columns(certificate)
    try:
        problems = list(_changed(folder, certificate, columns, images, labels, levels))
        problems += [*_miscounted(certificate, columns), *_rounded(certificate)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the certificate lacks or garbles {error}.") from None
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
    some = slice(examples)
    # The division of the model's own input, rounded to float32 as there.
    pixels = (images[some].astype(np.float32) / np.float32(levels)).astype(np.float64)
    columns = {name: column[some] for name, column in columns.items()}
    return [
        *_disproven(network, pixels, columns, float(certificate["eps_value"])),
        *_short(network, pixels, columns),
    ]


def images_digest(images: Pixels, levels: int) -> str:
    """SHA-256 of a line that states shape and levels, and of the bytes of the images in C order."""
    shape = "x".join(map(str, images.shape))
    return hashlib.sha256(f"uint8 {shape} levels {levels}\n".encode() + images.tobytes()).hexdigest()


def _columns(certificate: dict[str, Any]) -> Columns:
    """The numbers of each image, of equal length; null becomes NaN.

    Raises:
        ValueError: if they are missing or of another kind.
    """
    if certificate.get("format") != FORMAT:
        raise ValueError(
            f"certificates of format {FORMAT} can be proven again, got {certificate.get('format')!r}; "
            f"`hf-warmup certify` writes one."
        )
    try:
        found = {name: np.array(certificate["images"][name], dtype=np.float64) for name in _COLUMNS}
        broken = np.array(certificate["images"]["broken"], dtype=np.float64)
        # Which images were attacked; the first ones where the certificate does not say.
        attacked = np.array(certificate["images"].get("attacked", range(len(broken))), dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the certificate lacks or garbles the images' numbers ({error}).") from None
    count = found["label"].size
    shapes = {name: column.shape for name, column in found.items()}
    if count == 0 or set(shapes.values()) != {(count,)} or broken.ndim != 1 or len(broken) > count:
        raise ValueError(f"a certificate's columns have one number per image, got {shapes}, broken {broken.shape}.")
    if not (np.isin(found["verified"], (0, 1)).all() and np.isin(broken, (0, 1)).all()):
        raise ValueError("verdicts in a certificate are 0 or 1.")
    in_range = attacked.shape == broken.shape and np.isin(attacked, np.arange(count)).all()
    if not (in_range and (np.diff(attacked) > 0).all()):
        raise ValueError("`attacked` must number the images of `broken`, in ascending order.")
    return {**found, "broken": broken, "attacked": attacked}


def _changed(
    folder: Path, certificate: dict[str, Any], columns: Columns, images: Pixels, labels: Labels, levels: int
) -> Iterator[str]:
    """Model, images or labels that are not those of the certificate."""
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
        raise ValueError(
            f"expected images in uint8, (N, C, H, W), and N labels; got {images.dtype} of {images.shape} and "
            f"labels of {labels.shape}."
        )
    if weights_sha256(folder) != certificate["weights_sha256"]:
        yield f"{folder} has other weights than the certificate names (SHA-256)."
    if (images_digest(images, levels), levels) != (
        certificate["data"]["images_sha256"],
        certificate["data"]["levels"],
    ):
        yield f"the {len(images)} images are not those of the certificate (SHA-256)."
    if len(labels) != len(columns["label"]):
        yield f"{len(labels)} labels were given, the certificate has {len(columns['label'])}."
    else:
        yield from _told(labels != columns["label"], "have another label than in the certificate")


def _miscounted(certificate: dict[str, Any], columns: Columns) -> Iterator[str]:
    """Totals that do not follow from the images' numbers."""
    count, attacked = len(columns["label"]), len(columns["broken"])
    verified, broken = columns["verified"] == 1, columns["broken"] == 1
    right = columns["prediction"] == columns["label"]
    proven_and_broken = np.zeros_like(verified)
    proven_and_broken[columns["attacked"].astype(np.int64)] = broken
    proven_and_broken &= verified
    expected = {
        "num_examples": count,
        "num_verified": int(verified.sum()),
        "num_attacked": attacked,
        "clean_accuracy": right.mean(),
        "verified_accuracy": verified.mean(),
    }
    if attacked:
        expected["pgd_accuracy"] = 1 - broken.mean()
    for name, value in expected.items():
        if not abs(certificate[name] - value) <= 1e-12:
            yield f"{name} is {certificate[name]}, but the images' numbers give {value:.12g}."
    yield from _told(verified & ~right, "are called proven, but their prediction is not the label")
    yield from _told(proven_and_broken, "are called proven, but were broken by the attack")
    yield from _told(verified != (columns["margin"] > 0), "have a margin and a verdict that contradict each other")


def _rounded(certificate: dict[str, Any]) -> Iterator[str]:
    """A radius whose number is not its fraction, rounded up."""
    text, value, digits = certificate["eps"], certificate["eps_value"], certificate["eps_hex"]
    try:
        exact = Fraction(text)
        agree = Fraction(value) >= exact > Fraction(math.nextafter(value, -math.inf)) and value.hex() == digits
    except (ValueError, ZeroDivisionError, OverflowError):
        agree = False
    if not agree or not 0 <= exact <= 1:
        yield f"eps is {text} as a fraction, but {value} or {digits} as a number (the next float64 that is no less)."


def _disproven(network: bounds.Network, pixels: bounds.Array, columns: Columns, eps: float) -> Iterator[str]:
    """Verdicts and margins that NumPy contradicts.

    Every margin in a certificate is a lower bound on the exact one, so none may exceed NumPy's upper end. Of a proven
    image, it gave up no more than its slack, and its computed value lay within the slack of the exact one. Of an image
    that is not proven it comes from float32, where the a priori bound on the rounding error is that of float64
    times the ratio of their unit roundoffs; it may be wrong by that much, and may miss a proof by that much.
    """
    lower, upper = bounds.margins(network, pixels, columns["label"].astype(np.int64), np.full(len(pixels), eps))
    margin, slack, error = columns["margin"], columns["rounding_slack"], (upper - lower) / 2
    proven = columns["verified"] == 1
    yield from _told(proven & ~(lower > 0), "are called proven, but NumPy does not prove them")
    yield from _told(proven & ~((slack >= 0) & (slack <= _LARGEST_SLACK * error)), "have an impossible rounding slack")
    yield from _told(proven & ~(margin <= upper), "have a margin above what interval bounds can show")
    yield from _told(proven & ~(margin >= lower - 2 * slack), "have a margin below what NumPy proves")
    tolerance = FLOAT32_ERROR * error
    yield from _told(~proven & (lower > tolerance), "are called not proven, but NumPy proves them clearly")
    wrong = ~proven & np.isfinite(margin) & np.isfinite(tolerance) & ~(abs(margin - lower) <= tolerance)
    yield from _told(wrong, "are not proven, and have another margin than NumPy finds")


def _short(network: bounds.Network, pixels: bounds.Array, columns: Columns) -> Iterator[str]:
    """Radii that NumPy does not prove."""
    radius = columns["radius"]
    yield from _told(~((radius >= 0) & (radius <= 1)), "have a radius outside [0, 1]")
    claimed = (radius > 0) & (radius <= 1)
    if claimed.any():
        labels = columns["label"][claimed].astype(np.int64)
        lower, _ = bounds.margins(network, pixels[claimed], labels, radius[claimed])
        failed = claimed.copy()
        failed[claimed] = ~(lower > 0)
        yield from _told(failed, "have a radius within which NumPy does not prove them")


def _told(wrong: NDArray[np.bool_], what: str) -> Iterator[str]:
    if wrong.any():
        first = ", ".join(map(str, np.flatnonzero(wrong)[:3]))
        yield f"{int(wrong.sum())} image(s) {what}: number {first}{', ...' if wrong.sum() > 3 else ''}."


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
        certificate = bounds.read_object(options.certificate)
        problems = reprove(folder, certificate, images, labels, levels, examples=options.examples)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        print(f"numpy_verifier: {error}", file=sys.stderr)
        return 2
    print(
        "\n".join(problems) or f"Proven again: {certificate['num_verified']} of {certificate['num_examples']} images."
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
