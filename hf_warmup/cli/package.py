"""`hf-warmup package` certifies a study's run, puts it into a checkpoint folder, and prints its scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hf_warmup.cli.arguments import BatchSize, Data, Device, RadiusExamples, parse_batch_size, writable
from hf_warmup.cli.interruption import interruptible
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.records.files import read_json


if TYPE_CHECKING:
    from hf_warmup.certified.placing import Placing
    from hf_warmup.models.saving import StorageType


def package_and_report(
    study: Path,
    run: str,
    *,
    out: Path,
    data: str | None,
    dtype: "StorageType | None" = None,
    max_shard_size: str | None = None,
    placing: "Placing | None" = None,
    as_json: bool = False,
) -> None:
    """Make a checkpoint folder of a study's run and say where it is; arguments and errors as `package_checkpoint`."""
    from hf_warmup.certified.placing import AS_ON_CARDS
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.hub.packaging import package_checkpoint

    quiet_libraries()
    with shown() as tell:
        package_checkpoint(
            study,
            run,
            out,
            data_folder=data,
            placing=placing or AS_ON_CARDS,
            progress=tell,
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
    scores = read_json(out / "results.json")["scores"]
    shares = (f"{key} {100 * score['accuracy']:.2f} %" for key, score in scores.items())
    if as_json:
        print_json({"name": out.name, "folder": out, "scores": scores})
        return
    console_for(as_json).print(f"{out.name}: {', '.join(shares)}\nCheckpoint and card: {out}")


def package(
    study: Annotated[Path, typer.Argument(help="Folder of a finished hf-warmup train.")],
    run: Annotated[str, typer.Argument(help="METHOD--SEED, a folder of STUDY/models.")],
    out: Annotated[Path, typer.Option(callback=writable, help="The checkpoint folder; its name becomes the model's.")],
    data: Data = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(
            help="Round the stored weights to this type and certify them as stored. By default they stay as trained."
        ),
    ] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Largest size of a file of weights, such as 15MB. By default there is one file.")
    ] = None,
    with_code: Annotated[
        bool, typer.Option("--with-code", help="Add the modeling code, for people without this package.")
    ] = False,
    method: Annotated[
        Literal["ibp", "cascade"],
        typer.Option(help="Verifier: interval bounds alone, or the cascade that ends in alpha-CROWN."),
    ] = "ibp",
    device: Device = "cpu",
    batch_size: BatchSize = "512",
    radius_examples: RadiusExamples = None,
    as_json: AsJson = False,
) -> None:
    """Certify one run of a finished study, and put model, proofs, recipe and card into a folder for the Hub."""
    from hf_warmup.certified.placing import Placing
    from hf_warmup.hub.modeling_code import add_modeling_code
    from hf_warmup.hub.packaging import folder_of_work

    placing = Placing(device, parse_batch_size(batch_size), radius_examples, method)
    with interruptible(f"Complete blocks of images are kept in {folder_of_work(out)}"):
        package_and_report(
            study,
            run,
            out=out,
            data=data,
            placing=placing,
            as_json=as_json,
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
    if with_code:
        add_modeling_code(out)
