"""Pictures decoded into pixels of one size: as they are, or as a model's image processor makes them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.models.picture_fitting import Fitting


# Pictures that a processor is given at once: more need not fit into memory before they are small.
_CHUNK = 64


def decoded(
    pictures: Any, rows: Sequence[int], mode: Literal["L", "RGB"], fitting: Fitting | None, where: str
) -> tuple[Tensor, Mapping[str, Any] | None]:
    """Pixels of some rows, (N, C, H, W) in uint8, and what was done to make them fit, None for nothing.

    Args:
        pictures: a `datasets.Dataset` with the column `image`, undecoded.
        rows: which.
        mode: gray or colours.
        fitting: for pictures of another size than a model takes.
        where: the data's name, for messages.

    Raises:
        ConfigError: for a picture that cannot be read, or pictures of several sizes where nothing makes them fit.
    """
    arrays: list[NDArray[np.uint8]] = []
    for picture in _read(pictures, rows, mode, where):
        array = np.asarray(picture)
        if fitting is not None and not fitting.fits(*array.shape[:2]):
            return _fitted(_read(pictures, rows, mode, where), fitting), fitting.document
        if arrays and array.shape != arrays[0].shape:
            sizes = " and ".join(f"{each.shape[1]} x {each.shape[0]}" for each in (arrays[0], array))
            raise ConfigError(
                f"{where}: images must be of one size, found {sizes}; resize them, or take a model whose folder holds "
                f"an image processor that does."
            )
        arrays.append(array)
    images = torch.from_numpy(np.stack(arrays))
    return (images.unsqueeze(1) if images.dim() == 3 else images.movedim(-1, 1).contiguous()), None


def _fitted(pictures: Iterator[Image.Image], fitting: Fitting) -> Tensor:
    found, chunk = list[Tensor](), list[Image.Image]()
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == _CHUNK:
            found.append(torch.from_numpy(fitting(chunk)))
            chunk = []
    if chunk:
        found.append(torch.from_numpy(fitting(chunk)))
    if len(shapes := {each.shape[1:] for each in found}) > 1:
        raise ConfigError(f"{fitting.name}: its image processor makes images of several sizes, {sorted(shapes)[:2]}.")
    return torch.cat(found)


def _read(pictures: Any, rows: Sequence[int], mode: str, where: str) -> Iterator[Image.Image]:
    """Each picture in gray or in colours, upright."""
    feature = datasets.Image()
    every = len(rows) == len(pictures)
    for row, value in zip(rows, (pictures if every else pictures.select(rows))["image"], strict=True):
        if value is None:
            raise ConfigError(f"{where}: there is no picture in row {row}; leave that row out.")
        name = value.get("path") or f"the picture of row {row}"
        try:
            picture = feature.decode_example(value)
            if picture.mode.startswith(("I", "F")):
                raise ConfigError(f"{where}: {name} has more than 8 bits a pixel ({picture.mode}); convert it to 8.")
            yield picture.convert(mode)
        except ConfigError:
            raise
        except Exception as error:  # Pillow raises many kinds for a damaged file
            raise ConfigError(f"{where}: {name} cannot be read as a picture ({first_line(error)}).") from None
