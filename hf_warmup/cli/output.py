"""How commands print: one JSON document on standard output where a script asks for it, and all else beside it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hf_warmup.records.files import finite


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output; all else goes to standard error.")
]


def console_for(as_json: bool, *, soft_wrap: bool = True) -> Console:
    """Where a command prints what people read: standard output, unless a script wants that for itself.

    Args:
        as_json: whether it does.
        soft_wrap: leave long lines to the terminal; tables want False.
    """
    return Console(stderr=as_json, highlight=False, soft_wrap=soft_wrap)


def print_json(document: Any) -> None:
    """Print a document as one line of JSON; numbers that are not finite become null, as JSON has none."""
    print(json.dumps(finite(document), default=str, allow_nan=False))


def without_curves(document: Any) -> Any:
    """Results without what each run went through on its way, which makes up most of a document."""
    if isinstance(document, dict):
        kept = {key: value for key, value in document.items() if key not in ("evaluations", "curve")}
        return {key: without_curves(value) for key, value in kept.items()}
    return [without_curves(item) for item in document] if isinstance(document, list) else document


def study_document(results: Any, folder: Path, **places: Path) -> dict[str, Any]:
    """What a script reads of a study: its results without curves, or that runs are still missing."""
    return {"complete": results is not None, "folder": folder, **places, **without_curves(results or {})}
