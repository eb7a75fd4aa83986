"""What `hf-warmup verify-certificate` does: a certificate in, its proofs made again with NumPy, a verdict out."""

from pathlib import Path
from typing import Any, Literal

import datasets
import typer
from pydantic import ValidationError
from rich.console import Console

from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, load_split
from hf_warmup.errors import ConfigError
from hf_warmup.numpy_verifier.network import read_object
from hf_warmup.numpy_verifier.verifier import reprove
from hf_warmup.statistics.proportions import clopper_pearson


def verify_certificate_and_report(
    certificate: Path, *, model: str | None, data: str | None, examples: int | None
) -> None:
    """Prove every verdict and radius of a certificate again, without the code that made it.

    Args:
        certificate: `certificate.json`, or a folder that holds it.
        model: folder of the model; the certificate's own by default.
        data: name or folder of the data set; the certificate's own by default.
        examples: prove only the first so many images again; hashes, labels and totals are compared for all.

    Raises:
        ConfigError: if something is missing or of a kind that cannot be checked.
        typer.Exit: with code 1 where the certificate does not hold.
    """
    console = Console(highlight=False, soft_wrap=True)
    datasets.disable_progress_bars()
    path = certificate / "certificate.json" if certificate.is_dir() else certificate
    folder = path.parent if model is None else Path(model)
    try:
        document = read_object(path)
        images = _images(document, read_object(folder / "config.json"), data)
        with console.status("proving again"):
            arrays = (images.images.numpy(), images.labels.numpy(), images.levels)
            problems = reprove(folder, document, *arrays, examples=examples)
        problems += _other_interval(document)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: {error.strerror or error}; a certificate is about a folder."
        ) from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    count, name = document["num_examples"], document["data"]["name"]
    if problems:
        console.print(f"Does not hold: {path}", *(f"  {problem}" for problem in problems), sep="\n")
        raise typer.Exit(1)
    again = "" if examples is None or examples >= count else f" (the first {examples} of them were proven again)"
    console.print(
        f"Holds: {document['num_verified']} of {count} images of {name}, split {document['data']['split']}, "
        f"are proven at eps {document['eps']}{again}.\n"
        f"Weights and images are those of the certificate; verdicts, margins and radii were computed again in float64 "
        f"with bounded rounding by NumPy alone. The attack's result was not repeated."
    )


def _images(document: dict[str, Any], config: dict[str, Any], data: str | None) -> Images:
    try:
        name, split, count = document["data"]["name"], document["data"]["split"], document["num_examples"]
        mode: Literal["L", "RGB"] = "L" if config.get("num_channels") == 1 else "RGB"
        wanted = DataConfig(name=data or name, mode=mode, test_split=split, test_examples=count)
    except (KeyError, TypeError, ValidationError):
        raise ConfigError("the certificate does not say which images it is about: `hf-warmup certify` does.") from None
    return load_split(wanted, "test")


def _other_interval(document: dict[str, Any]) -> list[str]:
    expected = clopper_pearson(document["num_verified"], document["num_examples"])
    found = document.get("verified_interval")
    if (
        isinstance(found, list)
        and len(found) == 2
        and all(abs(a - b) < 1e-9 for a, b in zip(found, expected, strict=True))
    ):
        return []
    return [f"verified_interval is {found}, but the counts give {expected[0]:.6g} to {expected[1]:.6g}."]
