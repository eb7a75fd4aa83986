"""What `hf-warmup package` does: a study's run certified and put into a checkpoint folder, and its scores printed."""

from pathlib import Path

from rich.console import Console

from hf_warmup.cli.quiet import quiet_libraries
from hf_warmup.hub.packaging import package_checkpoint
from hf_warmup.models.saving import StorageType
from hf_warmup.records.files import read_json


def package_and_report(
    study: Path,
    run: str,
    *,
    out: Path,
    data: str | None,
    dtype: StorageType | None = None,
    max_shard_size: str | None = None,
) -> None:
    """Make a checkpoint folder of a study's run and say where it is; arguments and errors as `package_checkpoint`."""
    quiet_libraries()
    console = Console(highlight=False, soft_wrap=True)
    with console.status(f"certifying and attacking {run}"):
        package_checkpoint(study, run, out, data_folder=data, dtype=dtype, max_shard_size=max_shard_size)
    scores = read_json(out / "results.json")["scores"]
    shares = (f"{key} {100 * score['accuracy']:.2f} %" for key, score in scores.items())
    console.print(f"{out.name}: {', '.join(shares)}\nCheckpoint and card: {out}")
