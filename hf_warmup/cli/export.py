"""`hf-warmup export` writes files for complete verifiers of others; `add-verdicts` takes their answers back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_warmup.cli.arguments import (
    Examples,
    ImageColumn,
    LabelColumn,
    MatchClasses,
    Split,
    Subset,
    Weights,
    columns_of,
    read_certified,
    read_data,
    writable,
)
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record


if TYPE_CHECKING:
    from torch import nn

    from hf_warmup.data.config import DataConfig
    from hf_warmup.data.images import Images


def export(
    model: Annotated[str, typer.Argument(help="An image classifier: a folder or Hub name, or FILE.py:FUNCTION.")],
    data: Annotated[
        str | None, typer.Argument(help='"digits", a Hub data set, folder or table; the certificate\'s by default.')
    ] = None,
    eps: Annotated[str | None, typer.Option(help="Radius, such as 8/255; the certificate's by default.")] = None,
    split: Split = "test",
    subset: Subset = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    match_classes: MatchClasses = None,
    examples: Examples = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Export only images that this certificate leaves undecided. By default MODEL's own."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Export every image, whatever a certificate says.")] = False,
    weights: Weights = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that instances.csv allows for each image.")] = 300,
    out: Annotated[Path, typer.Option(callback=writable, help="Folder to write to.")] = Path("export"),
    as_json: AsJson = False,
) -> None:
    """Write a classifier as ONNX and images as VNN-LIB 1.0, for alpha-beta-CROWN and other tools of VNN-COMP."""
    from hf_warmup.certified.export import export as write
    from hf_warmup.cli.quiet import quiet_libraries

    quiet_libraries()
    place = certificate or (Path(model) / "certificate.json" if Path(model, "certificate.json").exists() else None)
    document = None if place is None else _certificate(place)
    columns = columns_of(image_column, label_column, match_classes)
    eps = eps or (None if document is None else document["eps"])
    if (data is None and document is None) or eps is None:
        raise ConfigError(f"{model} has no certificate.json, so name the data set and the radius: DATA --eps 8/255.")
    try:
        if data is not None:
            wanted = read_data(data, split, examples, {**columns, "subset": subset})
        else:
            assert document is not None
            wanted = read_certified(document["data"], document["num_examples"], None, columns)
        classifier, images = _load(model, weights, wanted)
        chosen = _chosen(document, images, eps, every=every)
        with shown() as tell:
            written = write(classifier, images, chosen, eps, out, timeout=timeout, progress=tell)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if as_json:
        print_json({"folder": out, **written})
    else:
        console_for(as_json).print(_sentences(written, len(images), out))


def _sentences(written: Record, num_images: int, out: Path) -> str:
    """What was written, and what comes next."""
    from hf_warmup.certified.vnnlib import file_name

    return (
        f"{len(written['images'])} of {num_images} images at {written['eps']}: {out / 'model.onnx'}, "
        f"{out / 'vnnlib' / file_name(written['images'][0])} and its like, {out / 'instances.csv'}.\n"
        f"onnxruntime's logits are the model's within {written['largest_difference_of_logits']:.1g}.\n"
        f"Then: hf-warmup add-verdicts CERTIFICATE RESULTS --tool NAME"
    )


def add_verdicts(
    certificate: Annotated[Path, typer.Argument(help="certificate.json, or a folder that holds it.")],
    results: Annotated[
        Path, typer.Argument(help="A folder with one result file for each property, or a table of results.")
    ],
    tool: Annotated[str, typer.Option(help="The program's name, such as alpha-beta-CROWN.")],
    model: Annotated[str | None, typer.Option(help="The model; the certificate's folder by default.")] = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="The data set; the certificate's by default.")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    match_classes: MatchClasses = None,
    as_json: AsJson = False,
) -> None:
    """Add the answers of somebody else's complete verifier to a certificate, under that program's name."""
    from hf_warmup.certified.told import add_verdicts as add
    from hf_warmup.certified.vnnlib import read_results
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.numpy_verifier.fields import TOLD

    quiet_libraries()
    folder = certificate if certificate.is_dir() else certificate.parent
    document = _certificate(folder / "certificate.json")
    try:
        told = list(read_results(results))
        place = model or document["model"]["repository"] or str(folder)
        columns = columns_of(image_column, label_column, match_classes)
        wanted = read_certified(document["data"], document["num_examples"], data, columns)
        pair = _load(place, weights, wanted)
        added = add(folder, document, tool, told, pair)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from None
    told_by = added.certificate["told_by"].get(tool, {})
    if as_json:
        print_json({"tool": tool, **{verdict: told_by.get(verdict, []) for verdict in TOLD}, "refused": added.refused})
        return
    console, (unsat, sat, timeout) = console_for(as_json), (len(told_by.get(verdict, [])) for verdict in TOLD)
    console.print(
        f"{tool}: {unsat} unsat (told, not proven here, not counted), {sat} sat (each counterexample checked), "
        f"{timeout} timeout; {len(added.refused)} answers not taken."
    )
    for image, reason in added.refused.items():
        console.print(f"  image {image}: {reason}")


def _certificate(place: Path) -> dict[str, Any]:
    from hf_warmup.numpy_verifier.claims import read_claims
    from hf_warmup.numpy_verifier.reading import read_object

    try:
        document = read_object(place)
        read_claims(document)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: no certificate can be read ({error}).") from None
    return document


def _load(model: str, weights: Path | None, data: DataConfig) -> tuple[nn.Module, Images]:
    from hf_warmup.certified.loading import load_pair

    _, classifier, images = load_pair(model, weights, data)
    return classifier, images


def _chosen(document: dict[str, Any] | None, images: Images, eps: str, *, every: bool) -> list[int]:
    """Numbers of the images to export: the undecided ones of a certificate, or all."""
    from fractions import Fraction

    from hf_warmup.certified import parse_eps
    from hf_warmup.certified.certificate import images_digest

    if not 0 < parse_eps(eps) <= 1:
        raise ConfigError(f"--eps must be above 0 and at most 1, got {eps}.")
    if document is None or every:
        return list(range(len(images)))
    if Fraction(document["eps"]) != Fraction(eps) or document["data"]["images_sha256"] != images_digest(images):
        raise ConfigError(
            f"the certificate is about other images or another radius ({document['eps']}); --all exports every image."
        )
    columns = document["images"]
    falsified = columns.get("falsified", [0] * len(images))
    rows = zip(columns["verified"], falsified, columns["label"], columns["prediction"], strict=True)
    return [
        image
        for image, (verified, broken, label, answer) in enumerate(rows)
        if not verified and not broken and label == answer
    ]
