"""The part of the command line that deals with checkpoints and the Hub; parsing only, as in `cli`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hf_warmup.cli.folders import writable


hub = typer.Typer()
zoo = typer.Typer(name="zoo", help="Certified checkpoints: what there is, and whether it is what its card says.")
hub.add_typer(zoo)

Root = Annotated[Path, typer.Option(help="Folder of local checkpoints.")]
Data = Annotated[str | None, typer.Option(help="Copy of the data set; the Hub's by default.")]


@hub.command()
def package(
    study: Annotated[Path, typer.Argument(help="Folder of a finished hf-warmup train.")],
    run: Annotated[str, typer.Argument(help="METHOD--SEED, a folder of STUDY/models.")],
    out: Annotated[Path, typer.Option(callback=writable, help="The checkpoint folder; its name becomes the model's.")],
    data: Data = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Round stored weights to it, and certify them as stored; as trained by default."),
    ] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Most that a file of weights holds, such as 15MB; one file by default.")
    ] = None,
    with_code: Annotated[
        bool, typer.Option("--with-code", help="Add the modeling code, for people without this package.")
    ] = False,
) -> None:
    """Certify one run of a finished study, and put model, proofs, recipe and card into a folder for the Hub."""
    from hf_warmup.cli.package import package_and_report
    from hf_warmup.hub.modeling_code import add_modeling_code

    package_and_report(study, run, out=out, data=data, dtype=dtype, max_shard_size=max_shard_size)
    if with_code:
        add_modeling_code(out)


@hub.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder, or that of a finished study.")],
    repo_id: Annotated[str, typer.Option(help="ORG/NAME or USER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a private repository, if one is made.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; the main one by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Publish a checkpoint (a model) or a study (a data set of its records) on the Hub, in one commit."""
    from hf_warmup.cli.publish import publish_and_report

    publish_and_report(folder, repo_id, private=private, revision=revision, dry_run=dry_run)


@zoo.command("list")
def zoo_list(
    root: Root = Path("model_cards"),
    author: Annotated[str | None, typer.Option(help="Only this user's or organization's on the Hub.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Do not ask the Hub.")] = False,
) -> None:
    """List certified checkpoints: local ones and, with network, the Hub's."""
    from hf_warmup.cli.zoo import zoo_list_and_report

    zoo_list_and_report(root, author=author, local=local)


@zoo.command("verify")
def zoo_verify(
    name: Annotated[str, typer.Argument(help="A folder, a checkpoint's name in ROOT, or OWNER/NAME on the Hub.")],
    data: Data = None,
    root: Root = Path("model_cards"),
) -> None:
    """Certify and attack a checkpoint again on its whole test split; exit code 1 where it differs from its card."""
    from hf_warmup.cli.zoo import zoo_verify_and_report

    if not zoo_verify_and_report(name, data=data, root=root):
        raise typer.Exit(1)


@hub.command("verify-certificate")
def verify_certificate(
    certificate: Annotated[Path, typer.Argument(help="certificate.json, or a folder that holds it.")],
    model: Annotated[str | None, typer.Option(help="Folder of the model; the certificate's own by default.")] = None,
    data: Data = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Prove only the first EXAMPLES images again.")] = None,
) -> None:
    """Prove a certificate's verdicts again with NumPy alone; exit code 1 where one does not hold."""
    from hf_warmup.cli.verify_certificate import verify_certificate_and_report

    verify_certificate_and_report(certificate, model=model, data=data, examples=examples)


@hub.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="Weights of a certified CNN-7: .safetensors, or a torch state dict.")],
    layout: Annotated[str, typer.Option(help="fast-certified, ctbench or ctrain.")],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder for the checkpoint; must not hold anything yet.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="mnist, cifar10 or tinyimagenet: image size, and how the loader normalizes.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width, where --dataset does not say.")] = None,
    image_mean: Annotated[str | None, typer.Option(help="Per channel, separated by commas.")] = None,
    image_std: Annotated[str | None, typer.Option(help="As --image-mean.")] = None,
) -> None:
    """Rewrite other people's certified CNN-7 weights as a checkpoint that certify takes."""
    from hf_warmup.cli.import_weights import import_and_report

    import_and_report(
        file,
        layout=layout,
        out=out,
        dataset=dataset,
        image_size=image_size,
        image_mean=image_mean,
        image_std=image_std,
    )
