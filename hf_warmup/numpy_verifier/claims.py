"""What a certificate claims, read strictly, with NumPy and the standard library alone.

A certificate holds nothing but claims. Every one of them is either a text that must be exactly this version's, or is
computed again: here, if it follows from the certificate's other numbers; in `verifier`, from the model and the images.
What nobody can compute again, such as the outcome of an attack or who made the certificate, is not in it. Each claim
has one spelling: the keys are exactly those below, counts are JSON integers, eps is an integer or a fraction in lowest
terms, and null stands for the margin of an image that is not proven and for a radius that was not looked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


if __package__:
    from hf_warmup.numpy_verifier.fields import (
        Column,
        Labels,
        digest,
        eps_of,
        exact_keys,
        file,
        hub_name,
        integers,
        length_of,
        margins,
        processing,
        radii,
        text,
        told_by,
        within,
    )
    from hf_warmup.numpy_verifier.proportions import CONFIDENCE, is_interval
else:  # Beside a file that is run by its path.
    from fields import (  # type: ignore[import-not-found,no-redef]
        Column,
        Labels,
        digest,
        eps_of,
        exact_keys,
        file,
        hub_name,
        integers,
        length_of,
        margins,
        processing,
        radii,
        text,
        told_by,
        within,
    )
    from proportions import CONFIDENCE, is_interval  # type: ignore[import-not-found,no-redef]


# Of certificates by intervals alone, and of those that name the stage which proved each image.
FORMAT, STAGED = 3, 4
NORM = "Linf, pixels in [0, 1], cut to [0, 1]"
CLAIM = (
    "no perturbation within the radius changes the answer of the network with its stored weights in exact arithmetic; "
    "constants that its forward pass computes from weights alone count as float64 computes them"
)
# How an image was proven, by a short name, and what the name stands for.
METHODS = {"ibp": "interval bound propagation, last layer elided, float64 with bounded rounding"}
LINEAR_VERIFIER = "interval and backward linear bounds, float64 with bounded rounding"
# Of each method of format 4: its stages, cheap ones first.
STAGES = {
    "crown-ibp": ("crown-ibp",),
    "crown": ("crown",),
    "alpha-crown": ("crown", "alpha-crown"),
    "cascade": ("ibp", "crown-ibp", "crown", "alpha-crown"),
}
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
# What format 4 says besides.
_STAGED_KEYS = (
    "num_falsified",
    "num_unknown",
    "num_verified_by",
    "slopes_sha256",
    "counterexamples_sha256",
    "told_by",
)
_MODEL = ("repository", "revision", "settings_sha256")
_DATA = ("name", "split", "images_sha256", "levels")
_COLUMNS = ("label", "prediction", "verified", "margin", "radius")
_STAGED_COLUMNS = ("verified_by", "falsified")


@dataclass(frozen=True)
class Claims:
    """A certificate's claims about its model and each of N images.

    Attributes:
        repository, revision: of the Hub, and its commit; None for a model that was a folder.
        settings: SHA-256 of each JSON file that a model is loaded with, see `weights.settings_sha256`.
        weights: SHA-256 of the weights.
        name, split, subset: of the data set; no subset is its only or its default one.
        images: SHA-256 of the images.
        levels: the number that is white.
        processing: what the model's image processor did to pictures; None for images as they are.
        eps: never below the stated fraction.
        label, prediction: class numbers, (N,).
        verified: (N,), bool.
        margin: lower bound on the exact margin, NaN where nothing is proven at eps, (N,).
        radius: within which intervals prove the image, 0 for none, NaN for no claim; it need not be the largest. (N,)
        staged: whether several stages were at work, as in format 4.
        exact_eps: the stated fraction.
        verified_by: the stage that proved each image, "" for none, (N,).
        falsified: whether a counterexample is stored, (N,), bool.
        slopes, counterexamples: SHA-256 of the files that hold them; None where there are none.
        told_by: of each program of others, image numbers by what it says of them.
    """

    repository: str | None
    revision: str | None
    settings: dict[str, str]
    weights: str
    name: str
    split: str
    subset: str | None
    images: str
    levels: int
    processing: dict[str, Any] | None
    eps: float
    label: Labels
    prediction: Labels
    verified: NDArray[np.bool_]
    margin: Column
    radius: Column
    staged: bool
    exact_eps: Fraction
    verified_by: NDArray[np.str_]
    falsified: NDArray[np.bool_]
    slopes: str | None
    counterexamples: str | None
    told_by: dict[str, dict[str, list[int]]]


def read_claims(certificate: dict[str, Any]) -> Claims:
    """A certificate's claims, if it is spelled as it must be; whether they are true is left to others.

    Raises:
        ValueError: for another format, a key too many or too few, or a value that is no such claim.
    """
    staged = _check_form(certificate)
    model, data, images = certificate["model"], certificate["data"], certificate["images"]
    repository, revision = hub_name(model)
    settings = model["settings_sha256"]
    if isinstance(settings, dict) and any(str(name).endswith(".py") for name in settings):
        raise ValueError(
            f"it is about a model that a program makes ({', '.join(map(str, settings))}); only models of a folder "
            "with config.json can be proven again without running it."
        )
    if not isinstance(settings, dict) or "config.json" not in settings:
        raise ValueError(f"model.settings_sha256 must name config.json, got {settings!r}.")
    length = length_of(images)
    verified = integers(images["verified"], "verified", 2).astype(bool)
    by = _stages(certificate, verified)
    falsified = integers(images["falsified"], "falsified", 2).astype(bool) if staged else np.zeros(length, np.bool_)
    return Claims(
        repository=repository,
        revision=revision,
        settings={name: digest(value, f"settings_sha256 of {name}") for name, value in settings.items()},
        weights=digest(certificate["weights_sha256"], "weights_sha256"),
        name=text(data["name"], "data.name"),
        split=text(data["split"], "data.split"),
        subset=text(data["subset"], "data.subset") if "subset" in data else None,
        images=digest(data["images_sha256"], "data.images_sha256"),
        levels=within(data["levels"], "data.levels", 1, 255),
        processing=processing(data),
        eps=eps_of(certificate),
        label=integers(images["label"], "label"),
        prediction=integers(images["prediction"], "prediction"),
        verified=verified,
        margin=margins(images, by == "ibp", staged),
        radius=radii(certificate, length),
        staged=staged,
        exact_eps=Fraction(certificate["eps"]),
        verified_by=by,
        falsified=falsified,
        slopes=file(certificate, "slopes_sha256", bool((by == "alpha-crown").any())) if staged else None,
        counterexamples=file(certificate, "counterexamples_sha256", bool(falsified.any())) if staged else None,
        told_by=told_by(certificate["told_by"], length) if staged else {},
    )


def _check_form(certificate: dict[str, Any]) -> bool:
    """Refuse another format, other keys and other words than this version's; whether several stages were at work."""
    if type(certificate.get("format")) is not int or certificate["format"] not in (FORMAT, STAGED):
        raise ValueError(
            f"certificates of format {FORMAT} or {STAGED} can be proven again, got {certificate.get('format')!r}; "
            f"`hf-warmup certify` writes one. (Format 2 also held numbers that nobody can check, such as an attack's.)"
        )
    staged = bool(certificate["format"] == STAGED)
    exact_keys(certificate, (*_KEYS, *(_STAGED_KEYS if staged else ())), "a certificate", optional=("num_radii",))
    methods = dict.fromkeys(STAGES, LINEAR_VERIFIER) if staged else METHODS
    if not isinstance(certificate["method"], str) or certificate["method"] not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {certificate['method']!r}.")
    texts = {"claim": CLAIM, "norm": NORM, "verifier": methods[certificate["method"]]}
    for name, expected in texts.items():
        if certificate[name] != expected:
            raise ValueError(f"{name} must be {expected!r}, got {certificate[name]!r}.")
    exact_keys(certificate["model"], _MODEL, "model")
    exact_keys(certificate["data"], _DATA, "data", optional=("processing", "subset"))
    exact_keys(certificate["images"], (*_COLUMNS, *(_STAGED_COLUMNS if staged else ())), "images")
    return staged


def contradictions(certificate: dict[str, Any], claims: Claims) -> Iterator[str]:
    """Claims that do not follow from the claims about each image, or contradict each other."""
    verified, right, count = claims.verified, claims.prediction == claims.label, len(claims.label)
    clean, proven = int(right.sum()), int(verified.sum())
    expected: dict[str, Any] = {
        "num_examples": count,
        "num_clean": clean,
        "num_verified": proven,
        "clean_accuracy": clean / count,
        "verified_accuracy": proven / count,
    }
    if certificate["format"] == STAGED:
        by = [str(name) for name in claims.verified_by]
        falsified = int(claims.falsified.sum())
        expected["num_falsified"], expected["num_unknown"] = falsified, count - proven - falsified
        expected["num_verified_by"] = {stage: by.count(stage) for stage in STAGES[certificate["method"]]}
    for name, value in expected.items():
        if not _same(certificate[name], value):
            yield f"{name} is {certificate[name]!r}, but the images' numbers give {value!r}."
    if not is_interval(certificate["verified_interval"], proven, count):
        yield (
            f"verified_interval is {certificate['verified_interval']!r}, which is not the exact "
            f"{100 * CONFIDENCE:.0f} % interval of {proven} of {count}."
        )
    yield from told(verified & ~right, "are called proven, but their prediction is not the label")
    by_intervals = claims.verified_by == "ibp"
    yield from told(by_intervals & ~(claims.margin > 0), "are called proven, but their margin is not positive")
    yield from told(by_intervals & (claims.radius < claims.eps), "are proven at eps, but their radius is smaller")
    yield from told(~verified & (claims.radius >= claims.eps), "are not proven at eps, but their radius says so")
    yield from told((claims.radius < 0) | (claims.radius > 1), "have a radius outside [0, 1]")
    yield from told(~right & (claims.radius > 0), "are misclassified, and yet have a radius")
    yield from told(verified & claims.falsified, "are called proven and falsified")
    for tool, images in claims.told_by.items():
        unsat, sat = (np.isin(np.arange(count), images[verdict]) for verdict in ("unsat", "sat"))
        yield from told(unsat & claims.falsified, f"are unsat to {tool}, but falsified")
        yield from told(sat & ~claims.falsified, f"are sat to {tool}, but no counterexample is stored")


def _same(found: Any, value: Any) -> bool:
    """Equal, and spelled alike: no True or 1.0 for 1."""
    if isinstance(value, dict):
        return (
            isinstance(found, dict)
            and found.keys() == value.keys()
            and all(_same(found[key], each) for key, each in value.items())
        )
    return type(found) is type(value) and bool(found == value)


def told(wrong: NDArray[np.bool_], what: str) -> Iterator[str]:
    """One sentence about the images that something is wrong with, if there are any."""
    if wrong.any():
        first = ", ".join(map(str, np.flatnonzero(wrong)[:3]))
        yield f"{int(wrong.sum())} image(s) {what}: number {first}{', ...' if wrong.sum() > 3 else ''}."


def _stages(certificate: Mapping[str, Any], verified: NDArray[np.bool_]) -> NDArray[np.str_]:
    """The stage that proved each image; "" where none did."""
    if certificate["format"] == FORMAT:
        return np.where(verified, "ibp", "")
    stages, column = STAGES[certificate["method"]], certificate["images"]["verified_by"]
    if wrong := [each for each in column if each is not None and (not isinstance(each, str) or each not in stages)]:
        raise ValueError(f"images.verified_by must hold {', '.join(stages)} or null, got {wrong[0]!r}.")
    if [each is not None for each in column] != verified.tolist():
        raise ValueError("images.verified_by must be a stage where verified is 1, and null where it is 0.")
    return np.array([each or "" for each in column], dtype=np.str_)
