"""Single claims read strictly: each has one spelling."""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


_FRACTION = re.compile(r"[0-9]{1,300}(/[0-9]{1,300})?")

# What a complete verifier of somebody else may say of an image.
TOLD = ("unsat", "sat", "timeout")

# What a certificate says of pictures that were made to fit: that, and the settings of the model's image processor.
PROCESSED = "what is proven is about the images that the model's image processor makes of the pictures"
PROCESSING = (
    *("about", "backend", "image_processor_type", "do_resize", "size", "default_to_square", "resample", "crop_pct"),
    *("do_center_crop", "crop_size", "image_size", "num_channels"),
)

Column = NDArray[np.float64]
Labels = NDArray[np.int64]


def eps_of(certificate: Mapping[str, Any]) -> float:
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


def exact_keys(value: Any, keys: tuple[str, ...], what: str, optional: tuple[str, ...] = ()) -> None:
    """Raise unless a value is a JSON object with these keys and no other, but perhaps the optional ones."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, got {type(value).__name__}.")
    missing, unknown = sorted(set(keys) - value.keys()), sorted(value.keys() - {*keys, *optional})
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{what} {' and '.join(parts)}; nothing else may be in it, and nothing may be left out.")


def length_of(images: Mapping[str, Any]) -> int:
    """How many images there is one number each of."""
    lengths = {name: len(column) if isinstance(column, list) else None for name, column in images.items()}
    found = set(lengths.values())
    if len(found) != 1 or found & {None, 0}:
        raise ValueError(f"a certificate's columns have one number per image, got {lengths}.")
    return len(images["label"])


def integers(column: list[Any], name: str, limit: int = 2**31) -> Labels:
    """A column of class numbers or of 0 and 1."""
    if wrong := [each for each in column if type(each) is not int or not 0 <= each < limit]:
        raise ValueError(f"images.{name} must hold integers from 0 to {limit - 1}, got {wrong[0]!r}.")
    return np.array(column, dtype=np.int64)


def margins(images: Mapping[str, Any], by_intervals: NDArray[np.bool_], staged: bool) -> Column:
    """The column of margins, NaN for null: what intervals do not prove has none."""
    if [each is None for each in images["margin"]] != (~by_intervals).tolist():
        where = 'verified_by is "ibp", and null elsewhere' if staged else "verified is 1, and null where it is 0"
        raise ValueError(f"images.margin must be a number where {where}.")
    return _numbers(images["margin"], "margin", len(by_intervals))


def radii(certificate: Mapping[str, Any], length: int) -> Column:
    """The column of radii, NaN for null; `num_radii` says how many are numbers where that is not all of them."""
    column, count = certificate["images"]["radius"], certificate.get("num_radii", length)
    if "num_radii" in certificate and not (type(count) is int and 0 < count < length):
        raise ValueError(f"num_radii must be an integer above 0 and below {length}, or be left out, got {count!r}.")
    found = sum(each is not None for each in column)
    if found != count:
        raise ValueError(f"images.radius must hold {count} numbers, and null elsewhere; it holds {found}.")
    return _numbers(column, "radius", length)


def _numbers(column: list[Any], name: str, length: int) -> Column:
    if wrong := [each for each in column if each is not None and type(each) is not float]:
        raise ValueError(f"images.{name} must hold numbers with a decimal point, got {wrong[0]!r}.")
    return np.array([math.nan if each is None else each for each in column], dtype=np.float64).reshape(length)


def within(value: Any, name: str, least: int, most: int) -> int:
    """A JSON integer between two others."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}.")
    return value


def text(value: Any, name: str) -> str:
    """A text that says something."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}.")
    return value


def digest(value: Any, name: str) -> str:
    """A SHA-256."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{name} must be 64 hexadecimal digits in lower case, got {value!r}.")
    return value


def file(certificate: Mapping[str, Any], key: str, is_needed: bool) -> str | None:
    """The SHA-256 of a file beside the certificate, which stands there exactly if something needs it."""
    if not is_needed and certificate[key] is None:
        return None
    if not is_needed:
        raise ValueError(f"{key} must be null: nothing in this certificate needs that file.")
    return digest(certificate[key], key)


def processing(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """How pictures were made to fit, for whoever makes the images again; None for images as they are."""
    if "processing" not in data:
        return None
    value = data["processing"]
    exact_keys(value, PROCESSING, "data.processing")
    if value["about"] != PROCESSED:
        raise ValueError(f"data.processing.about must be {PROCESSED!r}, got {value['about']!r}.")
    text(value["backend"], "data.processing.backend")
    for name, setting in value.items():
        sides = setting.values() if isinstance(setting, dict) else [setting]
        if any(not isinstance(side, str | bool | int | float | None) for side in sides):
            raise ValueError(f"data.processing.{name} must be a setting of an image processor, got {setting!r}.")
    return dict(value)


def told_by(value: Any, length: int) -> dict[str, dict[str, list[int]]]:
    """What programs of others say; nothing of it is proven here."""
    if not isinstance(value, dict):
        raise ValueError(f"told_by must be a JSON object, got {type(value).__name__}.")
    for tool, verdicts in value.items():
        text(tool, "a name in told_by")
        exact_keys(verdicts, TOLD, f"told_by.{tool}")
        for verdict, column in verdicts.items():
            place = f"told_by.{tool}.{verdict}"
            if not isinstance(column, list) or any(type(each) is not int or not 0 <= each < length for each in column):
                raise ValueError(f"{place} must hold numbers of images below {length}.")
            if column != sorted(set(column)):
                raise ValueError(f"{place} must hold each image once, in ascending order.")
        every = [image for column in verdicts.values() for image in column]
        if not every or len(set(every)) != len(every):
            raise ValueError(f"told_by.{tool} must say one thing of each image that it names, and name some.")
    return dict(value)


def hub_name(model: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """A repository and its commit, or neither."""
    repository, revision = model["repository"], model["revision"]
    if repository is None and revision is None:
        return None, None
    text(repository, "model.repository")
    if not isinstance(revision, str) or not re.fullmatch("[0-9a-f]{40}", revision):
        raise ValueError(f"model.revision must be a commit's 40 hexadecimal digits, got {revision!r}.")
    return repository, revision
