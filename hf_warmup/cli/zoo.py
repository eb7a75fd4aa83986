"""What `hf-warmup zoo` prints: a table of checkpoints, and whether one is what its card says."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_warmup.cli.arguments import Data


NONE = "–"

Root = Annotated[Path, typer.Option(help="Folder of local checkpoints.")]

zoo = typer.Typer(name="zoo", help="Certified checkpoints: what there is, and whether it is what its card says.")


def zoo_list_and_report(root: Path, *, author: str | None, local: bool) -> None:
    """Print the checkpoints of `root` and, unless `local`, those of the Hub (of `author`, if given)."""
    from hf_warmup.hub.zoo import list_checkpoints, list_hub_checkpoints

    found = list_checkpoints(root) + ([] if local else list_hub_checkpoints(author))
    console = Console(highlight=False, markup=False)
    if not found:
        console.print(f"No checkpoints in {root}.", soft_wrap=True)
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


def zoo_verify_and_report(name: str, *, data: str | None, root: Path) -> bool:
    """Print whether a checkpoint's card is true, count by count, and return it; raises as `verify_checkpoint`."""
    from hf_warmup.cli.quiet import quiet_libraries
    from hf_warmup.hub.zoo import verify_checkpoint

    quiet_libraries()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with console.status(f"proving and attacking {name} again"):
        outcome = verify_checkpoint(name, data_folder=data, root=root)
    for key, stated in outcome["stated"].items():
        console.print(f"  {key:<13} {stated:>7} on the card, {outcome['found'][key]:>7} found")
    if outcome["equal"]:
        console.print(f"{outcome['name']}: the card is true on all {outcome['stated']['num_examples']} images.")
        return True
    for difference in outcome["differences"]:
        console.print(f"  differs: {difference}")
    if all(difference.startswith("num_broken") for difference in outcome["differences"]):
        console.print("  The attack runs in float32, which other hardware rounds otherwise; the proofs are the same.")
    console.print(f"{outcome['name']}: what the card says was not found again.")
    return False


@zoo.command("list")
def zoo_list(
    root: Root = Path("model_cards"),
    author: Annotated[str | None, typer.Option(help="Only this user's or organization's on the Hub.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Do not ask the Hub.")] = False,
) -> None:
    """List certified checkpoints: local ones and, with network, the Hub's."""
    zoo_list_and_report(root, author=author, local=local)


@zoo.command("verify")
def zoo_verify(
    name: Annotated[str, typer.Argument(help="A folder, a checkpoint's name in ROOT, or OWNER/NAME on the Hub.")],
    data: Data = None,
    root: Root = Path("model_cards"),
) -> None:
    """Certify and attack a checkpoint again on its whole test split; exit code 1 where it differs from its card."""
    if not zoo_verify_and_report(name, data=data, root=root):
        raise typer.Exit(1)
