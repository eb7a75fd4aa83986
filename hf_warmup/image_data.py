"""Images as certified training takes them: uint8 in memory, pixels in [0, 1] in a batch, labels as class numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_warmup.certified_config import DataConfig
from hf_warmup.errors import ConfigError


# Of the division of the digits, which have no test set of their own.
SPLIT_SEED = 0


class Images(Dataset[dict[str, Tensor]]):
    """A split: `images`, (N, C, H, W) in uint8, of which `levels` is white, and `labels`, (N,)."""

    def __init__(self, images: Tensor, labels: Tensor, *, levels: int = 255) -> None:
        self.images, self.labels, self.levels = images, labels, levels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.images[index].float() / self.levels, "labels": self.labels[index]}

    def __getitems__(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """A whole batch, (B, C, H, W) and (B,); the loader then needs `collate=same`."""
        chosen = torch.as_tensor(indices)
        return {"pixel_values": self.images[chosen].float() / self.levels, "labels": self.labels[chosen]}

    def first(self, count: int | None) -> "Images":
        """The first `count` images; all of them for None."""
        return Images(self.images[:count], self.labels[:count], levels=self.levels)


def same(batch: Any) -> Any:
    """Collator for `Images`, which hand out whole batches."""
    return batch


@dataclass(frozen=True)
class ImageData:
    """A data set: what it trains on, what it is judged by, and how many classes it has."""

    train: Images
    test: Images
    num_labels: int

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and height (and width) of an image."""
        _, channels, height, _ = self.train.images.shape
        return channels, height


def load_images(config: DataConfig) -> ImageData:
    """Load "digits" (scikit-learn's) or any image data set of the Hub, or its copy in `config.folder`.

    Raises:
        ConfigError: if it cannot be found, or its images are not square and of one size.
    """
    train, test = load_split(config, "train"), load_split(config, "test")
    return ImageData(train, test, int(train.labels.max()) + 1)


def load_split(config: DataConfig, part: Literal["train", "test"]) -> Images:
    """One of the two splits that `config` names; raises as `load_images`."""
    split, count = getattr(config, f"{part}_split"), getattr(config, f"{part}_examples")
    images = _digits(split) if config.name == "digits" else _from_datasets(config, split)
    return images.first(count)


def _digits(split: str) -> Images:
    if split not in ("train", "test"):
        raise ConfigError(f"the digits have the splits train and test, got {split!r}.")
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(SPLIT_SEED))
    chosen = order[:1500] if split == "train" else order[1500:]
    images = torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1)
    return Images(images[chosen], torch.tensor(digits.target)[chosen], levels=16)


def _from_datasets(config: DataConfig, split: str) -> Images:
    place = config.folder or config.name
    try:
        raw = datasets.load_dataset(place, split=split)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        raise ConfigError(
            f"data set {place!r}, split {split!r}, cannot be loaded ({str(error).strip().splitlines()[0]}); a local "
            f"folder with the same columns does as well."
        ) from None
    return _as_images(raw, config)


def _as_images(part: Any, config: DataConfig) -> Images:
    columns = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name in ("label", "labels", "fine_label") if name in part.features]
    if len(columns) != 1 or not labels:
        raise ConfigError(
            f"data set {config.name!r}: expected one column of images and one of labels named label, labels or "
            f"fine_label; it has {', '.join(part.features)}."
        )
    pictures = [np.asarray(picture.convert(config.mode)) for picture in part[columns[0]]]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1 or pictures[0].shape[0] != pictures[0].shape[1]:
        raise ConfigError(
            f"data set {config.name!r}: images must be square and of one size, found {sorted(shapes)[:3]}."
        )
    images = torch.from_numpy(np.stack(pictures))
    images = images.unsqueeze(1) if images.dim() == 3 else images.movedim(-1, 1).contiguous()
    return Images(images, torch.tensor(part[labels[0]]))
