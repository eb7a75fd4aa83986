"""The API reference is built without a warning, and every public name has its place in it."""

from importlib import import_module
from pathlib import Path

from recipe_scripts import load


def test_every_public_name_has_its_place(tmp_path: Path) -> None:
    script = load("api_reference.py")
    assert script.build(tmp_path)
    for module in ("hf_warmup", *(f"hf_warmup.{room}" for room in script.PUBLIC)):
        page = (tmp_path / f"{module.replace('.', '/')}.html").read_text()
        for name in import_module(module).__all__:
            # A private name is in `__all__` for others than readers.
            assert name.startswith("_") or f'id="{name}"' in page, f"{module}.{name}"
