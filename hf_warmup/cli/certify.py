"""`hf-warmup certify` proves what it can of each image, and prints and stores what it found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from hf_warmup.cli.arguments import (
    BatchSize,
    Device,
    Examples,
    ImageColumn,
    LabelColumn,
    MatchClasses,
    RadiusExamples,
    Split,
    Subset,
    Weights,
    columns_of,
    parse_batch_size,
    read_data,
    writable,
)
from hf_warmup.cli.certify_summary import Asked, advice, by_stage, remarks, summary
from hf_warmup.cli.interruption import interruptible
from hf_warmup.cli.output import AsJson, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.cli.quiet import quiet_libraries
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_bytes, write_json


if TYPE_CHECKING:
    from hf_warmup.certified.split import Results
    from hf_warmup.data.images import Images

Method = Literal["ibp", "crown-ibp", "crown", "alpha-crown", "cascade"]


@dataclass(frozen=True)
class Proving:
    """How proofs are made, see `hf_warmup.certify`, and where; a batch size of None is as many as fit."""

    method: Method = "cascade"
    device: str = "auto"
    batch_size: int | None = 256
    time_limit: float | None = None
    radius_examples: int | None = None

    def __post_init__(self) -> None:
        if self.time_limit is not None and not self.time_limit > 0:
            raise ConfigError(f"--time-limit must be a positive number of seconds, got {self.time_limit}.")


_BY_DEFAULT = Proving()


def certify_and_report(
    model: str,
    data: str,
    *,
    eps: str,
    split: str,
    examples: int | None,
    largest_eps: str | None,
    steps: int,
    restarts: int,
    proving: Proving = _BY_DEFAULT,
    weights: Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    out: Path,
    as_json: bool = False,
) -> None:
    """Certify a classifier on a split; write documents and a figure into `out`.

    `certificate.json` claims what each stage proves and refutes, which others can check with the files beside it:
    `counterexamples.npz` holds the points that refute, `proof/slopes.safetensors` what alpha-CROWN's proofs are.
    `verdicts.json` holds what nobody can check, such as times. Blocks of images that are complete are kept in `blocks`
    until everything is done, so the same call goes on after a kill. Processes of a launcher divide the blocks.

    Args:
        model: folder or Hub name, or FILE.py:FUNCTION.
        data: "digits", Hub name, folder or file.
        eps: radius, such as "8/255".
        split: of the data set.
        examples: only so many images, drawn by a fixed seed.
        largest_eps: the largest radius tried for each image; 4 eps by default.
        steps, restarts: of the attack.
        proving: method, device, batch size, time limit, and of how many images radii are looked for.
        weights: safetensors file for the model that FUNCTION makes.
        columns: how the data set is read: `subset`, `image_column`, `label_column`, `match_classes` of `DataConfig`.
        out: folder, made if it does not exist.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: for anything that cannot be loaded or certified.
    """
    from accelerate import PartialState

    from hf_warmup.bounds import UnsupportedOperation
    from hf_warmup.certified.attacks import PgdConfig
    from hf_warmup.certified.blocks import BLOCKS, PATIENCE
    from hf_warmup.certified.cascade import Blockwise
    from hf_warmup.certified.loading import load_pair
    from hf_warmup.certified.placing import proof_device
    from hf_warmup.certified.split import Claim, certify_split, kept_work
    from hf_warmup.training.accelerator import join_processes

    quiet_libraries()
    join_processes(cpu=proving.device == "cpu", patience=PATIENCE)
    console = Console(highlight=False, soft_wrap=True, quiet=not PartialState().is_main_process)
    try:
        largest, target = _largest_radius(eps, largest_eps), proof_device(proving.device)
        source, classifier, images = load_pair(model, weights, read_data(data, split, examples, columns))
        known = Path(data).name if Path(data).exists() else data
        attack = PgdConfig(steps=steps, restarts=restarts)
        claim = Claim(source, known, split, eps, largest, attack, proving.radius_examples)
        with shown(Console(stderr=True, highlight=False, quiet=console.quiet)) as tell:
            work = Blockwise(proving.method, time_limit=proving.time_limit, progress=tell)
            parts = claim, classifier.to(target), images
            results = certify_split(*parts, kept_work(*parts, out, work, batch_size=proving.batch_size))
    except UnsupportedOperation as error:
        raise ConfigError(f"{model}: {error}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not console.quiet:
        store(out, Path(model).name, results)
    # Nobody removes what was kept before all is written.
    PartialState().wait_for_everyone()
    if not _stopped(results.verdicts):
        shutil.rmtree(out / BLOCKS, ignore_errors=True)
    options = {"split": split, "examples": examples, "weights": weights, **(columns or {})}
    asked = Asked(model, data, images.images.shape[1], options)
    _tell(console, results, out, asked, images, as_json=as_json)


def _tell(console: Console, results: Results, out: Path, asked: Asked, images: Images, *, as_json: bool) -> None:
    """Print what was found, for a person or for a script; one process does."""
    if console.quiet:
        return
    examples = asked.options["examples"]
    said = [*advice(results, asked), *remarks(asked.model, asked.data, examples, images)]
    if as_json:
        print_json(document(results, out, said))
        return
    for line in [*_lines(Path(asked.model).name, results, out), *said, *_places(out)]:
        console.print(line)


def _largest_radius(eps: str, largest_eps: str | None) -> float:
    """Where the radius curve ends; raises ConfigError unless eps lies before it."""
    from hf_warmup.certified import parse_eps

    largest = min(1.0, 4 * parse_eps(eps)) if largest_eps is None else parse_eps(largest_eps)
    if not 0 < parse_eps(eps) <= largest:
        raise ConfigError(f"--eps must be positive and at most --largest-eps, got {eps} and {largest:g}.")
    return largest


def store(out: Path, name: str, results: Results) -> None:
    """Write the three documents, the certificate's files, and the radius curve."""
    from hf_warmup.certified.certificate import by_stages, radii_in
    from hf_warmup.report.plots import radius_curve, save_figure

    document, attack = results.certificate, results.attack
    for place, content in results.files.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / place, content)
    write_json(out / "certificate.json", document)
    write_json(out / "attack.json", attack)
    write_json(out / "verdicts.json", results.verdicts)
    shares = {"attacked": attack["pgd_accuracy"], "clean": document["clean_accuracy"], "proven": by_stages(document)}
    figure = radius_curve(radii_in(document), document["eps_value"], name=name, **shares)
    save_figure(figure, out / "radius.png")


def _lines(name: str, results: Results, out: Path) -> Iterator[str]:
    """What a person reads of the results."""
    verdicts = results.verdicts
    yield from [
        *summary(name, results.certificate, results.attack, verdicts),
        *by_stage(results.certificate, verdicts),
    ]
    if _stopped(verdicts):
        yield (
            f"What was found is kept in {out / 'blocks'}: the same command goes on from there, after a longer "
            "--time-limit or with more memory."
        )


def document(results: Results, out: Path, said: list[str]) -> Record:
    """What a script reads of the results, and where the rest is."""
    found, attack, verdicts = results.certificate, results.attack, results.verdicts
    keys = ("verified_accuracy", "verified_interval", "num_verified", "num_falsified", "num_unknown", "stages")
    return {
        "complete": not _stopped(verdicts),
        "eps": found["eps"],
        "num_examples": found["num_examples"],
        "clean_accuracy": found["clean_accuracy"],
        "pgd_accuracy": attack["pgd_accuracy"],
        **{key: verdicts[key] for key in keys},
        "remarks": said,
        **{name: out / f"{name}.json" for name in ("certificate", "attack", "verdicts")},
        "picture": out / "radius.png",
    }


def _places(out: Path) -> Iterator[str]:
    """Where everything is."""
    yield f"What is proven of each image, and by which stage: {out / 'certificate.json'}"
    yield f"What each stage took: {out / 'verdicts.json'}"
    yield f"What the attack found: {out / 'attack.json'}"
    yield f"Radius curve: {out / 'radius.png'}"


def _stopped(verdicts: Record) -> bool:
    return any(stage["stopped"] for stage in verdicts["stages"])


def certify(
    model: Annotated[
        str,
        typer.Argument(help="An image classifier: a folder or Hub name with safetensors, or FILE.py:FUNCTION."),
    ],
    data: Annotated[str, typer.Argument(help='"digits", a Hub data set, a folder of pictures, or a table of them.')],
    eps: Annotated[str, typer.Option(help="L-infinity radius for pixels in [0, 1], such as 8/255.")],
    split: Split = "test",
    subset: Subset = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    match_classes: MatchClasses = None,
    examples: Examples = None,
    largest_eps: Annotated[str | None, typer.Option(help="Radius at which the curve ends. By default 4 eps.")] = None,
    radius_examples: RadiusExamples = None,
    pgd_steps: Annotated[int, typer.Option(min=1, help="Steps of the attack.")] = 40,
    pgd_restarts: Annotated[int, typer.Option(min=1, help="Random starts of the attack.")] = 1,
    method: Annotated[Method, typer.Option(help="Verifier. The cascade tries cheap ones first.")] = "cascade",
    device: Device = "auto",
    batch_size: BatchSize = "256",
    time_limit: Annotated[
        float | None,
        typer.Option(help="Stop METHOD after so many seconds. What is undecided then stays unknown."),
    ] = None,
    weights: Weights = None,
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of certificate.json, verdicts.json and the radius curve.")
    ] = Path("certificate"),
    as_json: AsJson = False,
) -> None:
    """Prove, image by image, that no perturbation up to a radius changes a classifier's answer."""
    with interruptible(f"Complete blocks of images are kept in {out / 'blocks'}"):
        certify_and_report(
            model,
            data,
            eps=eps,
            split=split,
            examples=examples,
            largest_eps=largest_eps,
            steps=pgd_steps,
            restarts=pgd_restarts,
            proving=Proving(method, device, parse_batch_size(batch_size), time_limit, radius_examples),
            weights=weights,
            columns={"subset": subset, **columns_of(image_column, label_column, match_classes)},
            out=out,
            as_json=as_json,
        )
