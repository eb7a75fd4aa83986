"""Images as certified training takes them: uint8 in memory, pixels in [0, 1] in a batch, labels as class numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_warmup.data.augmentation import Augmentation
from hf_warmup.data.config import DataConfig
from hf_warmup.data.digits import LEVELS, read_digits
from hf_warmup.errors import ConfigError, first_line


# Seeds the division of the digits, which have no test set of their own.
SPLIT_SEED = 0


@dataclass
class Images(Dataset[dict[str, Tensor]]):
    """A split, which hands out whole batches on the device that it is on.

    Attributes:
        images: (N, C, H, W) in uint8, of which `levels` is white.
        labels: (N,).
        augmentation: how images are changed at random; None hands them out as they are.
        epoch: of which the augmentation makes part, 0-based.
    """

    images: Tensor
    labels: Tensor
    levels: int = 255
    augmentation: Augmentation | None = None
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice) -> dict[str, Tensor]:
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(len(self))))
        return {name: part[0] for name, part in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """A whole batch, (B, C, H, W) and (B,); the loader then needs `collate=same`."""
        chosen = torch.as_tensor(indices).to(self.labels.device, non_blocking=True)
        pixel_values = self.images[chosen].float() / self.levels
        if self.augmentation is not None:
            pixel_values = self.augmentation(pixel_values, chosen, epoch=self.epoch)
        return {"pixel_values": pixel_values, "labels": self.labels[chosen]}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0; `hf_warmup.train` calls this by itself."""
        self.epoch = epoch

    def first(self, count: int | None) -> "Images":
        """The first `count` images; all of them for None."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def to(self, device: torch.device) -> "Images":
        """The same images on a device, in one byte a value."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def augmented(self, augmentation: Augmentation | None) -> "Images":
        """The same images, changed at random when they are handed out."""
        return replace(self, augmentation=augmentation)


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

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


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
    images, labels = read_digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    chosen = order[:1500] if split == "train" else order[1500:]
    return Images(images[chosen], labels[chosen], levels=LEVELS)


def _from_datasets(config: DataConfig, split: str) -> Images:
    place = config.folder or config.name
    try:
        raw = datasets.load_dataset(place, split=split)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        raise ConfigError(
            f"data set {place!r}, split {split!r}, cannot be loaded ({first_line(error)}); a local "
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
