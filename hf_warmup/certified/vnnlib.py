"""Properties of images as VNN-LIB 1.0 files, and what complete verifiers of others answer to them.

A property is the existence of a counterexample: a point of the box at which some class is at least as high as the
label. `unsat` means that there is none, `sat` comes with one. Sources: vnnlib.org, and the rules of VNN-COMP.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from hf_warmup.errors import ConfigError


# Digits behind the point that bounds are written with, rounded outwards.
_DIGITS = 17
_NAME = re.compile(r"image_(\d+)")
_VALUE = re.compile(r"\(\s*([XY])_(\d+)\s+([^\s()]+)\s*\)")
_VERDICTS = {"unsat": "unsat", "holds": "unsat", "sat": "sat", "violated": "sat", "timeout": "timeout"}


@dataclass(frozen=True)
class Told:
    """What a program says of an image.

    Attributes:
        image: its number.
        verdict: "unsat", "sat" or "timeout".
        point: with "sat" the counterexample's pixels in their order, (D,) in float64; None where it came with none.
    """

    image: int
    verdict: str
    point: Tensor | None = None


def file_name(image: int) -> str:
    """The name of an image's property."""
    return f"image_{image:05d}.vnnlib"


def property_of(image: Tensor, label: int, classes: int, eps: str) -> str:
    """The text of the property that an image's answer can be changed.

    Args:
        image: pixels in [0, 1].
        label: the answer.
        classes: how many there are.
        eps: radius as a fraction; the box is cut to [0, 1] and written so that it contains the exact one.
    """
    radius, pixels = Fraction(eps), image.double().flatten().tolist()
    lines = [f"; Can the answer {label} be changed within {eps} (L-infinity, pixels in [0, 1])?", ""]
    lines += [f"(declare-const X_{index} Real)" for index in range(len(pixels))]
    lines += [f"(declare-const Y_{index} Real)" for index in range(classes)]
    for index, pixel in enumerate(pixels):
        lower, upper = max(Fraction(0), Fraction(pixel) - radius), min(Fraction(1), Fraction(pixel) + radius)
        lines.append(f"(assert (>= X_{index} {_decimal(lower, ROUND_FLOOR)}))")
        lines.append(f"(assert (<= X_{index} {_decimal(upper, ROUND_CEILING)}))")
    rivals = "\n".join(f"    (and (>= Y_{rival} Y_{label}))" for rival in range(classes) if rival != label)
    return "\n".join([*lines, "", f"(assert (or\n{rivals}\n))", ""])


def read_results(place: Path) -> Iterator[Told]:
    """What a program says, in any order; answers that are neither unsat, sat nor timeout are left out.

    Args:
        place: a folder with one file for each property, its answer on the first line and a counterexample behind a
            "sat", as VNN-COMP's scripts write them; or a table of its results, whose counterexamples are such files
            beside it.

    Raises:
        ConfigError: if nothing can be read, or an image is answered twice.
    """
    if place.is_dir():
        found = [_of_file(path) for path in sorted(place.iterdir()) if path.is_file() and _NAME.search(path.name)]
        told = [each for each in found if each is not None]
    else:
        told = list(_of_table(place))
    if not told:
        raise ConfigError(f"{place}: no results of {file_name(0)} and its like, answered unsat, sat or timeout.")
    images = [each.image for each in told]
    if twice := sorted({image for image in images if images.count(image) > 1}):
        raise ConfigError(f"{place}: image {twice[0]} is answered twice.")
    yield from told


def _decimal(value: Fraction, rounding: str) -> str:
    with localcontext() as context:
        context.prec, context.rounding = 60, rounding
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        return format(exact.quantize(Decimal(1).scaleb(-_DIGITS)), "f")


def _of_file(path: Path) -> Told | None:
    if path.suffix == ".vnnlib":
        return None
    text = _read(path)
    first = text.split(maxsplit=1)
    verdict = _VERDICTS.get(first[0].lower().rstrip(",") if first else "")
    name = _NAME.search(path.name)
    if verdict is None or name is None:
        return None
    return Told(int(name[1]), verdict, _point(text, path) if verdict == "sat" else None)


def _of_table(path: Path) -> Iterator[Told]:
    for row in csv.reader(_read(path).splitlines()):
        names = [name for name in map(_NAME.search, row) if name is not None]
        verdicts = [_VERDICTS[field.strip().lower()] for field in row if field.strip().lower() in _VERDICTS]
        if len(names) == 1 and len(verdicts) == 1:
            image, point = int(names[0][1]), None
            for file in sorted(path.parent.glob(f"{Path(file_name(image)).stem}.*")):
                if file.suffix != ".vnnlib" and verdicts[0] == "sat":
                    point = _point(_read(file), file)
            yield Told(image, verdicts[0], point)


def _point(text: str, path: Path) -> Tensor | None:
    try:
        values = {int(index): float(value) for kind, index, value in _VALUE.findall(text) if kind == "X"}
    except ValueError as error:
        raise ConfigError(f"{path}: no counterexample can be read ({error}).") from None
    if not values:
        return None
    if sorted(values) != list(range(len(values))):
        raise ConfigError(f"{path}: the counterexample lacks some of X_0 to X_{max(values)}.")
    return torch.tensor([values[index] for index in range(len(values))], dtype=torch.float64)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from None
