"""`hf-warmup zoo` lists checkpoints, and says whether one is what its card says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from hf_warmup.cli.arguments import BatchSize, Data, Device, parse_batch_size
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.records.files import Record


if TYPE_CHECKING:
    from hf_warmup.certified.placing import Placing

NONE = "–"

Root = Annotated[Path, typer.Option(help="Folder of local checkpoints.")]

zoo = typer.Typer(name="zoo", help="Certified checkpoints: what there is, and whether it is what its card says.")


def zoo_list_and_report(root: Path, *, author: str | None, local: bool, as_json: bool = False) -> None:
    """Print the checkpoints of `root` and, unless `local`, those of the Hub (of `author`, if given)."""
    from hf_warmup.hub.zoo import list_checkpoints, list_hub_checkpoints

    found = list_checkpoints(root) + ([] if local else list_hub_checkpoints(author))
    if as_json:
        print_json({"checkpoints": found})
        return
    console = console_for(as_json, soft_wrap=False)
    if not found:
        console.print(f"No checkpoints in {root}.", markup=False, soft_wrap=True)
        return
    table = Table("checkpoint", "where", "data", "eps", "clean", "PGD", "verified")
    for column in table.columns:
        column.overflow = "fold"  # a name is copied from here
    for entry in found:
        shares = [NONE if entry[key] is None else f"{100 * entry[key]:.2f} %" for key in ("clean", "pgd", "verified")]
        facts = [str(entry["data"] or NONE), str(entry["eps"] or NONE), *shares]
        cells = [entry["name"], "Hub" if entry["place"] == "Hub" else "local"]
        # As text: what strangers named is no markup.
        cells += facts if entry["problem"] is None else [entry["problem"]]
        table.add_row(*map(Text, cells))
    console.print(table)


def zoo_verify_and_report(
    name: str, *, data: str | None, root: Path, placing: "Placing | None" = None, as_json: bool = False
) -> bool:
    """Print whether a checkpoint's card is true, count by count, and return it; raises as `verify_checkpoint`."""
    from hf_warmup.certified.placing import AS_ON_CARDS
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.hub.zoo import verify_checkpoint

    quiet_libraries()
    with shown() as tell:
        outcome = verify_checkpoint(name, data_folder=data, root=root, placing=placing or AS_ON_CARDS, progress=tell)
    if as_json:
        print_json(outcome)
    else:
        for line in sentences(outcome):
            console_for(as_json).print(line, markup=False)
    return bool(outcome["equal"])


def sentences(outcome: Record) -> list[str]:
    """What was found of a checkpoint, in words."""
    stated, found = outcome["stated"], outcome["found"]
    lines = [f"  {key:<13} {count:>7} on the card, {found[key]:>7} found" for key, count in stated.items()]
    if outcome["equal"]:
        return [*lines, f"{outcome['name']}: the card is true on all {stated['num_examples']} images."]
    lines += [f"  differs: {difference}" for difference in outcome["differences"]]
    if all(difference.startswith("num_broken") for difference in outcome["differences"]):
        lines.append("  The attack runs in float32, which other hardware rounds otherwise; the proofs are the same.")
    return [*lines, f"{outcome['name']}: what the card says was not found again."]


@zoo.command("list")
def zoo_list(
    root: Root = Path("model_cards"),
    author: Annotated[
        str | None, typer.Option(help="Of the Hub's, list only those of this user or organization.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Do not ask the Hub.")] = False,
    as_json: AsJson = False,
) -> None:
    """List certified checkpoints: local ones and, with network, the Hub's."""
    zoo_list_and_report(root, author=author, local=local, as_json=as_json)


@zoo.command("verify")
def zoo_verify(
    name: Annotated[str, typer.Argument(help="A folder, a checkpoint's name in ROOT, or OWNER/NAME on the Hub.")],
    data: Data = None,
    root: Root = Path("model_cards"),
    device: Device = "cpu",
    batch_size: BatchSize = "512",
    as_json: AsJson = False,
) -> None:
    """Certify and attack a checkpoint again on its whole test split; exit code 1 where it differs from its card."""
    from hf_warmup.certified.placing import Placing

    placing = Placing(device, parse_batch_size(batch_size))
    if not zoo_verify_and_report(name, data=data, root=root, placing=placing, as_json=as_json):
        raise typer.Exit(1)
