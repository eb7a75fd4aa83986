"""What a certificate claims, read strictly, with NumPy and the standard library alone.

A certificate holds nothing but claims. Every one of them is either a text that must be exactly this version's, or is
computed again: here, if it follows from the certificate's other numbers; in `verifier`, from the model and the images.
What nobody can compute again, such as the outcome of an attack or who made the certificate, is not in it. Each claim
has one spelling: the keys are exactly those below, counts are JSON integers, eps is an integer or a fraction in lowest
terms, and null stands for the margin of an image that is not proven and nowhere else.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


FORMAT = 3
NORM = "Linf, pixels in [0, 1], cut to [0, 1]"
CLAIM = (
    "no perturbation within the radius changes the answer of the network with its stored weights in exact arithmetic; "
    "constants that its forward pass computes from weights alone count as float64 computes them"
)
# How an image was proven, by a short name, and what the name stands for.
METHODS = {"ibp": "interval bound propagation, last layer elided, float64 with bounded rounding"}
# Of the interval about the verified accuracy, Clopper and Pearson's.
CONFIDENCE = 0.95
_KEYS = (
    *(
        "format",
        "claim",
        "norm",
        "method",
        "verifier",
        "eps",
        "eps_value",
        "eps_hex",
        "model",
        "weights_sha256",
        "data",
    ),
    *(
        "num_examples",
        "num_clean",
        "num_verified",
        "clean_accuracy",
        "verified_accuracy",
        "verified_interval",
        "images",
    ),
)
_MODEL = ("repository", "revision", "settings_sha256")
_DATA = ("name", "split", "images_sha256", "levels")
_COLUMNS = ("label", "prediction", "verified", "margin", "radius")
_FRACTION = re.compile(r"[0-9]{1,300}(/[0-9]{1,300})?")

Column = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Claims:
    """A certificate's claims about its model and each of N images.

    Attributes:
        repository, revision: of the Hub, and its commit; None for a model that was a folder.
        settings: SHA-256 of each JSON file that a model is loaded with, see `weights.settings_sha256`.
        weights: SHA-256 of the weights.
        name, split: of the data set.
        images: SHA-256 of the images.
        levels: the number that is white.
        eps: never below the stated fraction.
        label, prediction: class numbers, (N,).
        verified: (N,), bool.
        margin: lower bound on the exact margin, NaN where nothing is proven at eps, (N,).
        radius: within which the image is proven, 0 for none; it need not be the largest. (N,)
    """

    repository: str | None
    revision: str | None
    settings: dict[str, str]
    weights: str
    name: str
    split: str
    images: str
    levels: int
    eps: float
    label: Labels
    prediction: Labels
    verified: NDArray[np.bool_]
    margin: Column
    radius: Column


def read_claims(certificate: dict[str, Any]) -> Claims:
    """A certificate's claims, if it is spelled as it must be; whether they are true is left to others.

    Raises:
        ValueError: for another format, a key too many or too few, or a value that is no such claim.
    """
    if type(certificate.get("format")) is not int or certificate["format"] != FORMAT:
        raise ValueError(
            f"certificates of format {FORMAT} can be proven again, got {certificate.get('format')!r}; "
            f"`hf-warmup certify` writes one. (Format 2 also held numbers that nobody can check, such as an attack's.)"
        )
    _exact_keys(certificate, _KEYS, "a certificate")
    if not isinstance(certificate["method"], str) or certificate["method"] not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {certificate['method']!r}.")
    texts = {"claim": CLAIM, "norm": NORM, "verifier": METHODS[certificate["method"]]}
    for name, text in texts.items():
        if certificate[name] != text:
            raise ValueError(f"{name} must be {text!r}, got {certificate[name]!r}.")
    model, data, images = certificate["model"], certificate["data"], certificate["images"]
    _exact_keys(model, _MODEL, "model")
    _exact_keys(data, _DATA, "data")
    _exact_keys(images, _COLUMNS, "images")
    repository, revision = _hub_name(model)
    settings = model["settings_sha256"]
    if isinstance(settings, dict) and any(str(name).endswith(".py") for name in settings):
        raise ValueError(
            f"it is about a model that a program makes ({', '.join(map(str, settings))}); only models of a folder "
            "with config.json can be proven again without running it."
        )
    if not isinstance(settings, dict) or "config.json" not in settings:
        raise ValueError(f"model.settings_sha256 must name config.json, got {settings!r}.")
    length = _length(images)
    verified = _integers(images["verified"], "verified", 2).astype(bool)
    if [each is None for each in images["margin"]] != (~verified).tolist():
        raise ValueError("images.margin must be a number where verified is 1, and null where it is 0.")
    return Claims(
        repository=repository,
        revision=revision,
        settings={name: _digest(text, f"settings_sha256 of {name}") for name, text in settings.items()},
        weights=_digest(certificate["weights_sha256"], "weights_sha256"),
        name=_text(data["name"], "data.name"),
        split=_text(data["split"], "data.split"),
        images=_digest(data["images_sha256"], "data.images_sha256"),
        levels=_within(data["levels"], "data.levels", 1, 255),
        eps=_eps(certificate),
        label=_integers(images["label"], "label"),
        prediction=_integers(images["prediction"], "prediction"),
        verified=verified,
        margin=_numbers([math.nan if each is None else each for each in images["margin"]], "margin", length),
        radius=_numbers(images["radius"], "radius", length),
    )


def contradictions(certificate: dict[str, Any], claims: Claims) -> Iterator[str]:
    """Claims that do not follow from the claims about each image, or contradict each other."""
    verified, right, count = claims.verified, claims.prediction == claims.label, len(claims.label)
    clean, proven = int(right.sum()), int(verified.sum())
    expected = {
        "num_examples": count,
        "num_clean": clean,
        "num_verified": proven,
        "clean_accuracy": clean / count,
        "verified_accuracy": proven / count,
    }
    for name, value in expected.items():
        if type(certificate[name]) is not type(value) or certificate[name] != value:
            yield f"{name} is {certificate[name]!r}, but the images' numbers give {value!r}."
    if not is_interval(certificate["verified_interval"], proven, count):
        yield (
            f"verified_interval is {certificate['verified_interval']!r}, which is not the exact "
            f"{100 * CONFIDENCE:.0f} % interval of {proven} of {count}."
        )
    yield from told(verified & ~right, "are called proven, but their prediction is not the label")
    yield from told(verified & ~(claims.margin > 0), "are called proven, but their margin is not positive")
    yield from told(verified & ~(claims.radius >= claims.eps), "are proven at eps, but their radius is smaller")
    yield from told(~verified & ~(claims.radius < claims.eps), "are not proven at eps, but their radius says so")
    yield from told(~((claims.radius >= 0) & (claims.radius <= 1)), "have a radius outside [0, 1]")
    yield from told(~right & (claims.radius > 0), "are misclassified, and yet have a radius")


def is_interval(stated: Any, successes: int, trials: int) -> bool:
    """Whether two numbers are the ends of Clopper and Pearson's interval, to nine digits: beyond each of them, what
    was found would be found with a probability of less than (1 - CONFIDENCE) / 2.

    Source: Clopper & Pearson, Biometrika 26, 1934.
    """
    if not isinstance(stated, list) or len(stated) != 2 or any(type(end) is not float for end in stated):
        return False
    low, high = stated
    if not 0 <= low <= high <= 1:
        return False
    rare = (1 - CONFIDENCE) / 2
    return (low == 0 if successes == 0 else abs(_tail(successes, trials, low) - rare) < 1e-9) and (
        high == 1 if successes == trials else abs(_tail(trials - successes, trials, 1 - high) - rare) < 1e-9
    )


def told(wrong: NDArray[np.bool_], what: str) -> Iterator[str]:
    """One sentence about the images that something is wrong with, if there are any."""
    if wrong.any():
        first = ", ".join(map(str, np.flatnonzero(wrong)[:3]))
        yield f"{int(wrong.sum())} image(s) {what}: number {first}{', ...' if wrong.sum() > 3 else ''}."


def _tail(least: int, trials: int, share: float) -> float:
    """The probability of at least so many successes."""
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    whole, logs = math.lgamma(trials + 1), (math.log(share), math.log1p(-share))
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * logs[0] + (trials - k) * logs[1])
        for k in range(least, trials + 1)
    )


def _eps(certificate: Mapping[str, Any]) -> float:
    """The float64 that bounds are computed with: the stated fraction, rounded up."""
    text, value, digits = certificate["eps"], certificate["eps_value"], certificate["eps_hex"]
    exact = None
    if isinstance(text, str) and _FRACTION.fullmatch(text) and not re.search("/0*$", text):
        exact = Fraction(text)
    if exact is None or str(exact) != text or not 0 < exact <= 1:
        raise ValueError(
            f"eps must be a fraction in lowest terms, such as '8/255', above 0 and up to 1; got {text!r}."
        )
    expected = float(exact)
    if Fraction(expected) < exact:
        expected = math.nextafter(expected, 1.0)
    if type(value) is not float or value != expected or digits != expected.hex():
        raise ValueError(
            f"eps {text} is {expected!r} or {expected.hex()} as a number (the next float64 that is no less); "
            f"eps_value is {value!r} and eps_hex {digits!r}."
        )
    return expected


def _hub_name(model: Mapping[str, Any]) -> tuple[str | None, str | None]:
    repository, revision = model["repository"], model["revision"]
    if repository is None and revision is None:
        return None, None
    _text(repository, "model.repository")
    if not isinstance(revision, str) or not re.fullmatch("[0-9a-f]{40}", revision):
        raise ValueError(f"model.revision must be a commit's 40 hexadecimal digits, got {revision!r}.")
    return repository, revision


def _exact_keys(value: Any, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, got {type(value).__name__}.")
    missing, unknown = sorted(set(keys) - value.keys()), sorted(value.keys() - set(keys))
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{what} {' and '.join(parts)}; nothing else may be in it, and nothing may be left out.")


def _length(images: Mapping[str, Any]) -> int:
    lengths = {name: len(column) if isinstance(column, list) else None for name, column in images.items()}
    found = set(lengths.values())
    if len(found) != 1 or found & {None, 0}:
        raise ValueError(f"a certificate's columns have one number per image, got {lengths}.")
    return len(images["label"])


def _integers(column: list[Any], name: str, limit: int = 2**31) -> Labels:
    if wrong := [each for each in column if type(each) is not int or not 0 <= each < limit]:
        raise ValueError(f"images.{name} must hold integers from 0 to {limit - 1}, got {wrong[0]!r}.")
    return np.array(column, dtype=np.int64)


def _numbers(column: list[Any], name: str, length: int) -> Column:
    if wrong := [each for each in column if type(each) is not float]:
        raise ValueError(f"images.{name} must hold numbers with a decimal point, got {wrong[0]!r}.")
    return np.array(column, dtype=np.float64).reshape(length)


def _within(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}.")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}.")
    return value


def _digest(value: Any, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{name} must be 64 hexadecimal digits in lower case, got {value!r}.")
    return value
