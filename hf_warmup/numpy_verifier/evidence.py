"""What stands beside a certificate: slopes that prove, and points that refute; read with NumPy alone, and checked.

`proof/slopes.safetensors` holds rows of slopes, one for each image and rival that needs them: `image` and `rival`,
(R,), and `relu.0` to `relu.N`, (R, *outputs of the layer before), in [0, 1]. `counterexamples.npz` holds `index`,
(F,), numbers of images in ascending order, and `pixel_values`, (F, C, H, W) in float64.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier import lines
    from hf_warmup.numpy_verifier import network as bounds
    from hf_warmup.numpy_verifier.claims import Claims, told
    from hf_warmup.numpy_verifier.weights import read_safetensors
else:  # Beside a file that is run by its path.
    import lines  # type: ignore[import-not-found,no-redef]
    import network as bounds  # type: ignore[import-not-found,no-redef]
    from claims import Claims, told  # type: ignore[import-not-found,no-redef]
    from weights import read_safetensors  # type: ignore[import-not-found,no-redef]


SLOPES = "proof/slopes.safetensors"
COUNTEREXAMPLES = "counterexamples.npz"


def unproven_by_lines(
    network: bounds.Network,
    pixels: bounds.Array,
    claims: Claims,
    some: slice,
    folder: Path,
    tell: Callable[[str, int, int], None],
) -> Iterator[str]:
    """Verdicts of CROWN and its kin that NumPy does not find; alpha-CROWN's by their slopes.

    `tell` is told of a stage, of its images that are done and of all that it has.
    """
    slopes: dict[int, dict[int, lines.Slopes]] = {}
    if claims.slopes is not None:
        slopes = _slopes(_read(folder, SLOPES, claims.slopes), network, claims)
    by, failed = claims.verified_by[some], np.zeros(len(pixels), dtype=np.bool_)
    for stage in lines.STAGES:
        chosen = np.flatnonzero(by == stage)
        stored = {place: slopes.get(int(image), {}) for place, image in enumerate(chosen)}
        labels, told_of = claims.label[some][chosen], partial(tell, stage)
        found = lines.margins(network, pixels[chosen], labels, claims.eps, stage, stored, told_of)
        failed[chosen] = ~(found > 0)
    yield from told(failed, "are called proven by linear bounds, but NumPy does not prove them")


def unrefuted(
    network: bounds.Network, pixels: bounds.Array, claims: Claims, some: slice, folder: Path
) -> Iterator[str]:
    """Counterexamples that are none: outside the box, or answered with the label as far as NumPy can tell."""
    if claims.counterexamples is None:
        return
    data = _read(folder, COUNTEREXAMPLES, claims.counterexamples)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            index, points = arrays["index"], arrays["pixel_values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{COUNTEREXAMPLES}: no arrays can be read ({error}).") from None
    expected = np.flatnonzero(claims.falsified)
    shape = (len(expected), *network.shape)
    if points.dtype != np.float64 or points.shape != shape:
        raise ValueError(
            f"{COUNTEREXAMPLES}: pixel_values must be float64 of {shape}, got {points.dtype} of {points.shape}."
        )
    if index.dtype != np.int64 or not np.array_equal(index, expected):
        raise ValueError(f"{COUNTEREXAMPLES}: index must hold the images that the certificate calls falsified.")
    few = expected < len(pixels)
    images, points, own = expected[few], points[few], claims.label[some]
    outside, wrong = np.zeros(len(pixels), dtype=np.bool_), np.zeros(len(pixels), dtype=np.bool_)
    if len(images):
        near = [is_near(point, pixels[image], claims) for point, image in zip(points, images, strict=True)]
        outside[images] = ~np.array(near)
        _, upper = bounds.margins(network, points, own[images], np.zeros(len(images)))
        wrong[images] = ~(upper < 0)
    yield from told(outside, "have a counterexample outside the radius or outside [0, 1]")
    yield from told(wrong, "have a counterexample that NumPy does not see misclassified")


def is_near(point: bounds.Array, image: bounds.Array, claims: Claims) -> bool:
    """Whether a point lies within the stated fraction of an image, exactly."""
    if not ((point >= 0) & (point <= 1)).all():
        return False
    # A difference of numbers up to 1 errs by less than 2^-53.
    close = np.abs(point - image) > claims.eps - 2.0**-50
    pairs = zip(point[close].tolist(), image[close].tolist(), strict=True)
    return all(abs(Fraction(one) - Fraction(other)) <= claims.exact_eps for one, other in pairs)


def _read(folder: Path, name: str, digest: str) -> bytes:
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{folder / name} is not the file of the certificate (SHA-256).")
    return data


def _slopes(data: bytes, network: bounds.Network, claims: Claims) -> dict[int, dict[int, lines.Slopes]]:
    """Slopes by image and rival."""
    tensors = read_safetensors(data)
    shapes = lines.shapes_of(network)
    names = ["image", "rival", *(f"relu.{index}" for index in range(len(shapes)))]
    if sorted(tensors) != sorted(names):
        raise ValueError(f"{SLOPES}: expected {', '.join(names)}; got {', '.join(sorted(tensors))}.")
    image, rival = tensors["image"], tensors["rival"]
    _check_pairs(image, rival, claims, len(network.layers[-1].bias))
    rows: list[NDArray[np.float64]] = []
    for name, shape in zip(names[2:], shapes, strict=True):
        stored = tensors[name]
        if stored.dtype != np.float32 or stored.shape != (len(image), *shape):
            raise ValueError(
                f"{SLOPES}: {name} must be float32 of {(len(image), *shape)}, got {stored.dtype} of {stored.shape}."
            )
        if not ((stored >= 0) & (stored <= 1)).all():
            raise ValueError(f"{SLOPES}: {name} holds slopes outside [0, 1], which prove nothing.")
        rows.append(stored.astype(np.float64))
    found: dict[int, dict[int, lines.Slopes]] = {}
    for place, (one, other) in enumerate(zip(image.tolist(), rival.tolist(), strict=True)):
        found.setdefault(one, {})[other] = [part[place] for part in rows]
    return found


def _check_pairs(image: NDArray[np.int64], rival: NDArray[np.int64], claims: Claims, classes: int) -> None:
    if image.dtype != np.int64 or rival.dtype != np.int64 or image.ndim != 1 or image.shape != rival.shape:
        raise ValueError(f"{SLOPES}: image and rival must be int64, one number a row.")
    pairs = list(zip(image.tolist(), rival.tolist(), strict=True))
    if pairs != sorted(set(pairs)):
        raise ValueError(f"{SLOPES}: rows must be in ascending order of image and rival, each pair once.")
    by = claims.verified_by
    if any(
        not 0 <= one < len(by) or by[one] != "alpha-crown" or not 0 <= other < classes or other == claims.label[one]
        for one, other in pairs
    ):
        raise ValueError(f"{SLOPES}: a row belongs to no image that is proven by alpha-CROWN, or to no rival of it.")
