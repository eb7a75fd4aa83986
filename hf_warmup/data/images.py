"""Images as certified training takes them: uint8 in memory, pixels in [0, 1] in a batch, labels as class numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_warmup.data.augmentation import Augmentation
from hf_warmup.data.config import DataConfig
from hf_warmup.data.digits import LEVELS, digits_split, read_digits
from hf_warmup.data.splits import divided, drawn
from hf_warmup.errors import ConfigError, first_line


Part = Literal["train", "validation", "test"]


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
    """A data set: what it trains on, what it is judged by, and how many classes it has; perhaps a validation split."""

    train: Images
    test: Images
    num_labels: int
    validation: Images | None = None

    @property
    def watched(self) -> Images:
        """What a run is judged by while it trains: the validation split, or the test split where there is none."""
        return self.test if self.validation is None else self.validation

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and height (and width) of an image."""
        _, channels, height, _ = self.train.images.shape
        return channels, height

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device."""
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


def load_images(config: DataConfig) -> ImageData:
    """Load "digits" (scikit-learn's) or any image data set of the Hub, or its copy in `config.folder`.

    Raises:
        ConfigError: if it or a split cannot be found, its images are not square and of one size, or the validation
            split would leave nothing to train on.
    """
    parts: list[Part] = ["train", "test"] if config.validation is None else ["train", "test", "validation"]
    whole = {part: _open(config, part) for part in parts}
    images = {part: split.take(_chosen(config, part, split.size)) for part, split in whole.items()}
    # Counted over whole splits, because the examples that are used need not show every class.
    num_labels = max(split.num_labels for split in whole.values())
    return ImageData(images["train"], images["test"], num_labels, images.get("validation"))


def load_split(config: DataConfig, part: Part) -> Images:
    """One of the parts that `config` describes; raises as `load_images`."""
    split = _open(config, part)
    return split.take(_chosen(config, part, split.size))


@dataclass(frozen=True)
class _Split:
    """A whole split before its images are decoded; `take` decodes those whose rows it is given, (N,)."""

    size: int
    num_labels: int
    take: Callable[[Tensor], Images]


def _open(config: DataConfig, part: Part) -> _Split:
    if part == "validation":
        name = config.validation if isinstance(config.validation, str) else config.train_split
    else:
        name = config.train_split if part == "train" else config.test_split
    return _open_digits(name) if config.name == "digits" else _open_dataset(config, name)


def _chosen(config: DataConfig, part: Part, size: int) -> Tensor:
    if part == "test":
        return drawn(size, config.test_examples)
    if isinstance(config.validation, int):
        validation, train = divided(size, config.validation, config.train_examples)
        return train if part == "train" else validation
    return drawn(size, config.train_examples if part == "train" else None)


def _open_digits(split: str) -> _Split:
    if split not in ("train", "test"):
        raise ConfigError(f"the digits have the splits train and test, got {split!r}.")
    images, labels = read_digits()
    rows = torch.from_numpy(digits_split()[split == "test"])
    return _Split(len(rows), 10, lambda chosen: Images(images[rows[chosen]], labels[rows[chosen]], levels=LEVELS))


def _open_dataset(config: DataConfig, split: str) -> _Split:
    place = config.folder or config.name
    try:
        raw = datasets.load_dataset(place, split=split)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        raise ConfigError(
            f"data set {place!r}, split {split!r}, cannot be loaded ({first_line(error)}); a local "
            f"folder with the same columns does as well."
        ) from None
    pictures, labels = _columns(config, raw)
    feature = raw.features[labels]
    classes = feature.num_classes if isinstance(feature, datasets.ClassLabel) else max(raw[labels], default=-1) + 1

    def take(chosen: Tensor) -> Images:
        part = raw if len(chosen) == len(raw) else raw.select(chosen.tolist())
        return Images(_decoded(config, part[pictures]), torch.tensor(part[labels]))

    return _Split(len(raw), int(classes), take)


def _columns(config: DataConfig, raw: Any) -> tuple[str, str]:
    """Names of the columns of images and of labels."""
    pictures = [name for name, feature in raw.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name in ("label", "labels", "fine_label") if name in raw.features]
    if len(pictures) != 1 or not labels:
        raise ConfigError(
            f"data set {config.name!r}: expected one column of images and one of labels named label, labels or "
            f"fine_label; it has {', '.join(raw.features)}."
        )
    return pictures[0], labels[0]


def _decoded(config: DataConfig, column: Any) -> Tensor:
    """(N, C, H, W) in uint8."""
    pictures = [np.asarray(picture.convert(config.mode)) for picture in column]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1 or pictures[0].shape[0] != pictures[0].shape[1]:
        raise ConfigError(
            f"data set {config.name!r}: images must be square and of one size, found {sorted(shapes)[:3]}."
        )
    images = torch.from_numpy(np.stack(pictures))
    return images.unsqueeze(1) if images.dim() == 3 else images.movedim(-1, 1).contiguous()
