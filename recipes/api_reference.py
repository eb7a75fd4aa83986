"""Build the API reference: one page for each public module, from its docstrings, by pdoc.

    pip install -e ".[dev]" && python recipes/api_reference.py

The pages stand in `runs/api`; open `runs/api/index.html`. A name that does not resolve is an error.
"""

import argparse
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

import hf_warmup


# What people import. Rooms behind them are described by the modules' own docstrings.
PUBLIC = ("schedules", "lr_scheduler", "bounds", "certified", "models", "training", "smoothness", "data")


def build(out: Path) -> list[Path]:
    """Write the pages; returns them."""
    # pdoc looks at what a module holds, and these names are imported at first use.
    modules = ["hf_warmup", *(f"hf_warmup.{room}" for room in PUBLIC)]
    for module in map(import_module, modules):
        for name in module.__all__:
            setattr(module, name, getattr(module, name))
    pdoc.render.configure(docformat="google", footer_text=f"hf_warmup {hf_warmup.__version__}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*modules, output_directory=out)
    return sorted(out.rglob("*.html"))


def main() -> None:
    """Build into the folder that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/api"))
    out = parser.parse_args().out
    print(f"{len(build(out))} pages: {out / 'index.html'}")


if __name__ == "__main__":
    main()
