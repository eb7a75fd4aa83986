"""`hf-warmup verify-certificate` finds a certificate's claims again with NumPy, and says whether they hold."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_warmup.cli.arguments import Data, ImageColumn, LabelColumn, MatchClasses, columns_of, read_certified
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import Tell, shown
from hf_warmup.errors import ConfigError
from hf_warmup.numpy_verifier.reading import read_object


if TYPE_CHECKING:
    from hf_warmup.data.images import Images
    from hf_warmup.numpy_verifier.claims import Claims


def verify_certificate_and_report(
    certificate: Path,
    *,
    model: str | None,
    data: str | None,
    examples: int | None,
    columns: Mapping[str, str | None] | None = None,
    as_json: bool = False,
) -> None:
    """Find every claim of a certificate again, without the code that made it.

    Args:
        certificate: `certificate.json`, or a folder that holds it.
        model: folder of the model; the certificate's own by default, or the commit on the Hub that it names.
        data: name or folder of the data set; the certificate's own by default.
        examples: prove only the first so many images again; hashes, labels and totals are compared for all.
        columns: how the data set is read: `image_column`, `label_column` and `match_classes` of `DataConfig`.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: if something is missing or of a kind that cannot be checked.
        typer.Exit: with code 1 where the certificate does not hold.
    """
    import datasets

    from hf_warmup.numpy_verifier.claims import contradictions, read_claims

    datasets.disable_progress_bars()
    path = certificate / "certificate.json" if certificate.is_dir() else certificate
    try:
        document = read_object(path)
        claims = read_claims(document)
        problems = list(contradictions(document, claims))
        if not problems:
            with _model(path, claims, model) as folder, shown() as tell:
                images = _images(folder, claims, data, columns)
                problems = _problems(folder, document, images, examples, evidence=path.parent, tell=tell)
                problems += _other_processing(claims, images)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: {error.strerror or error}; a certificate is about a folder."
        ) from None
    except ConfigError:
        raise
    except ValueError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    remarks, count = list(_not_looked_up(claims, model, data)), len(claims.label)
    again = count if examples is None else min(examples, count)
    if as_json:
        found = {"holds": not problems, "problems": problems, "certificate": path, "eps": document["eps"]}
        counts = {"num_examples": count, "num_verified": int(claims.verified.sum()), "num_proven_again": again}
        print_json({**found, **counts, "remarks": remarks})
    else:
        lines = [f"Does not hold: {path}", *(f"  {problem}" for problem in problems)]
        if not problems:
            lines = [*_holds(claims, document["eps"], again), *_by_stage(claims), *remarks]
        console_for(as_json).print(*lines, sep="\n")
    if problems:
        raise typer.Exit(1)


def _holds(claims: "Claims", eps: str, again: int) -> Iterator[str]:
    """That everything was found again."""
    count = len(claims.label)
    some = "" if again == count else f" (the first {again} of them were proven again)"
    yield (
        f"Holds: {int(claims.verified.sum())} of {count} images of {_named(claims)}, split {claims.split}, are proven "
        f"at eps {eps}{some}."
    )
    yield (
        "Weights, settings and images are those of the certificate; predictions, verdicts, margins and radii were "
        "computed again in float64 with bounded rounding by NumPy alone."
    )


def _named(claims: "Claims") -> str:
    """The data set, with its subset where it has one."""
    return claims.name if claims.subset is None else f"{claims.name}, subset {claims.subset}"


def _problems(
    folder: Path,
    document: dict[str, Any],
    images: "Images",
    examples: int | None,
    *,
    evidence: Path,
    tell: Tell,
) -> list[str]:
    from hf_warmup.hub.modeling_code import modeling_code
    from hf_warmup.numpy_verifier.verifier import reprove

    code = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in modeling_code().items()}
    arrays = (images.images.numpy(), images.labels.numpy(), images.levels)
    return reprove(folder, document, *arrays, examples=examples, code=code, evidence=evidence, tell=tell)


@contextmanager
def _model(path: Path, claims: "Claims", model: str | None) -> Iterator[Path]:
    """The folder of the model: the one that is given, the certificate's, or what the Hub holds at the commit."""
    from hf_warmup.models.source import find_model
    from hf_warmup.numpy_verifier.weights import weight_files

    if model is not None or claims.repository is None:
        folder = path.parent if model is None else Path(model)
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{folder} holds no model (config.json), and a certificate is about one: name the model's folder by "
                "--model FOLDER."
            )
        yield folder
        return
    source = find_model(claims.repository, revision=claims.revision)
    if source.revision != claims.revision:
        raise ConfigError(f"{claims.repository} has no commit {claims.revision}.")
    with tempfile.TemporaryDirectory() as temporary:
        # Only what the certificate names: the client's cache may hold more of the repository.
        names = [*claims.settings, *(file.name for file in weight_files(source.folder))]
        names += [file.name for file in source.folder.glob("*.index.json")]
        for name in names:
            shutil.copyfile(source.folder / name, Path(temporary) / name)
        yield Path(temporary)


def _images(folder: Path, claims: "Claims", data: str | None, columns: Mapping[str, str | None] | None) -> "Images":
    """The images that a certificate is about: as they are, or as the model's image processor makes them."""
    from hf_warmup.certified.loading import load_fitted

    # Said as of other files that a certificate names.
    read_object(folder / "config.json")
    named = {"name": claims.name, "subset": claims.subset, "split": claims.split}
    wanted = read_certified(named, len(claims.label), data, columns or {})
    return load_fitted(str(folder), wanted, processed=claims.processing is not None)


def _other_processing(claims: "Claims", images: "Images") -> Iterator[str]:
    if claims.processing != images.processing:
        yield f"the images were made by {images.processing}, the certificate says {claims.processing}."


def _by_stage(claims: "Claims") -> Iterator[str]:
    """What was proven by which stage and refuted; and what others say, which nobody proves here."""
    from hf_warmup.numpy_verifier.lines import STAGES

    if not claims.staged:
        return
    by = claims.verified_by.tolist()
    parts = ", ".join(f"{by.count(stage)} by {stage}" for stage in ("ibp", *STAGES) if stage in by) or "none proven"
    yield f"Stages: {parts}; {int(claims.falsified.sum())} counterexamples hold; the rest is unknown."
    for tool, verdicts in claims.told_by.items():
        said = ", ".join(f"{len(images)} {verdict}" for verdict, images in verdicts.items() if images)
        yield f"{tool} says: {said}. An unsat of its is not proven here, and is not counted."


def _not_looked_up(claims: "Claims", model: str | None, data: str | None) -> Iterator[str]:
    """Names that were not needed to find files and images; those themselves are known by their SHA-256."""
    if data is not None:
        yield f"Whether the images are those of {_named(claims)} was not looked up: --data gave them."
    if claims.repository is not None and model is not None:
        yield f"Whether {claims.repository} holds this model at {claims.revision} was not looked up: --model gave it."


def verify_certificate(
    certificate: Annotated[Path, typer.Argument(help="certificate.json, or a folder that holds it.")],
    model: Annotated[str | None, typer.Option(help="Folder of the model; the certificate's own by default.")] = None,
    data: Data = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Prove only the first EXAMPLES images again.")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    match_classes: MatchClasses = None,
    as_json: AsJson = False,
) -> None:
    """Prove a certificate's verdicts again with NumPy alone; exit code 1 where one does not hold."""
    columns = columns_of(image_column, label_column, match_classes)
    verify_certificate_and_report(
        certificate, model=model, data=data, examples=examples, columns=columns, as_json=as_json
    )
