"""What a stored picture shows: its colors."""

from pathlib import Path

from PIL import Image


def colors_of(path: Path) -> set[str]:
    """Every color in a picture, as "#RRGGBB"; a line's own is among them where it was drawn."""
    with Image.open(path) as picture:
        found = picture.convert("RGB").getcolors(maxcolors=2**24)
    return {"#{:02X}{:02X}{:02X}".format(*color) for _, color in found}
