"""Images as certified training takes them: uint8 in memory, pixels in [0, 1] in a batch, labels as class numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_warmup.data.augmentation import Augmentation
from hf_warmup.data.classes import Classes, class_map
from hf_warmup.data.config import DataConfig
from hf_warmup.data.decoding import decoded
from hf_warmup.data.digits import LEVELS, digits_split, read_digits
from hf_warmup.data.picture_columns import rows_of
from hf_warmup.data.picture_sets import WHOLE, open_tables
from hf_warmup.data.splits import divided, drawn
from hf_warmup.errors import ConfigError
from hf_warmup.models.picture_fitting import Fitting


Part = Literal["train", "validation", "test"]


@dataclass
class Images(Dataset[dict[str, Tensor]]):
    """A split, which hands out whole batches on the device that it is on.

    Attributes:
        images: (N, C, H, W) in uint8, of which `levels` is white.
        labels: (N,).
        augmentation: how images are changed at random; None hands them out as they are.
        epoch: of which the augmentation makes part, 0-based.
        classes: what the labels are numbers of.
        split: the name of the part of the data set; `all` for data that nobody has divided.
        subset: which configuration of a data set of the Hub; None for its only or its default one.
        processing: what a certificate says of how pictures were made to fit a model; None for images as they are.
        remarks: sentences that a reader of numbers about these images must know.
    """

    images: Tensor
    labels: Tensor
    levels: int = 255
    augmentation: Augmentation | None = None
    epoch: int = 0
    classes: Classes | None = None
    split: str | None = None
    subset: str | None = None
    processing: Mapping[str, Any] | None = None
    remarks: tuple[str, ...] = ()

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
    """A data set: what it trains on, what it is judged by, how many classes it has; perhaps validation, and names."""

    train: Images
    test: Images
    num_labels: int
    validation: Images | None = None
    names: tuple[str, ...] | None = None

    @property
    def watched(self) -> Images:
        """What a run is judged by while it trains: the validation split, or the test split where there is none."""
        return self.test if self.validation is None else self.validation

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device."""
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


def load_images(config: DataConfig) -> ImageData:
    """Load "digits" (scikit-learn's), a folder or file of pictures, or any image data set of the Hub, or its copy in
    `config.folder`.

    Raises:
        ConfigError: if it, a split or a column cannot be found, its images are not of one size, labels are no classes,
            or the validation split would leave nothing to train on.
    """
    parts: list[Part] = ["train", "test"] if config.validation is None else ["train", "test", "validation"]
    whole = {part: _open(config, part) for part in parts}
    if whole["train"].split == whole["test"].split == WHOLE:
        raise ConfigError(
            f"data set {config.name!r} is not divided: put what is trained on and what judges into train and test, "
            f"folders or files."
        )
    images = {part: split.take(_chosen(config, part, split.size)) for part, split in whole.items()}
    # Counted over whole splits, because the examples that are used need not show every class.
    num_labels = max(split.classes.count for split in whole.values())
    return ImageData(
        images["train"], images["test"], num_labels, images.get("validation"), whole["train"].classes.names
    )


def load_split(config: DataConfig, part: Part, fitting: Fitting | None = None) -> Images:
    """One of the parts that `config` describes; raises as `load_images`.

    Args:
        config: what it is part of.
        part: which.
        fitting: makes pictures fit where they are of another size than a model takes; None takes them as they are.
    """
    split = _open(config, part, fitting)
    return split.take(_chosen(config, part, split.size))


def in_classes(images: Images, names: Sequence[str] | None, num_classes: int, config: DataConfig) -> Images:
    """Images whose labels are numbers of a model's classes.

    Args:
        images: with the data's own numbers.
        names: of the model's classes, by number; None for a model that has none.
        num_classes: of the model.
        config: of the data.

    Raises:
        ConfigError: for a class that the model does not have, or names that leave open which is which.
    """
    labels, classes, where = images.labels, images.classes, f"data set {config.name!r}"
    remarks = images.remarks
    if classes is not None:
        numbers = class_map(classes, names, num_classes, config.match_classes, where)
        labels = torch.tensor(numbers)[labels]
        by_number = names is None or config.match_classes == "number"
        if by_number and classes.names is not None and not (classes.stated or classes.are_numbers):
            some = ", ".join(f"{name} is {number}" for name, number in zip(classes.names[:3], numbers, strict=False))
            remarks += (
                f"No names of the model's say which class is which; the data's go by the alphabet: {some}, ...",
            )
    if (highest := int(labels.max())) >= num_classes:
        raise ConfigError(f"{where} has labels up to {highest}, and the model has {num_classes} logits.")
    return replace(images, labels=labels, remarks=remarks)


@dataclass(frozen=True)
class _Split:
    """A whole split before its images are decoded; `take` decodes those whose rows it is given, (N,)."""

    size: int
    classes: Classes
    split: str
    take: Callable[[Tensor], Images]


def _open(config: DataConfig, part: Part, fitting: Fitting | None = None) -> _Split:
    if part == "validation":
        name = config.validation if isinstance(config.validation, str) else config.train_split
    else:
        name = config.train_split if part == "train" else config.test_split
    if config.name == "digits":
        return _open_digits(name)
    place, is_copy = config.folder or config.name, config.folder is not None
    tables = open_tables(place, name, is_test=part == "test", subset=config.subset, is_copy=is_copy)
    rows = rows_of(config, tables)
    where = f"data set {config.name!r}, split {rows.split}"

    def take(chosen: Tensor) -> Images:
        wanted = chosen.tolist()
        images, processing = decoded(rows.pictures, wanted, config.mode, fitting, where)
        labels = torch.tensor([rows.labels[row] for row in wanted])
        asked = WHOLE if rows.split == WHOLE else name
        return Images(images, labels, classes=rows.classes, split=asked, subset=config.subset, processing=processing)

    return _Split(len(rows.labels), rows.classes, rows.split, take)


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

    def take(chosen: Tensor) -> Images:
        return Images(images[rows[chosen]], labels[rows[chosen]], levels=LEVELS, classes=Classes(10), split=split)

    return _Split(len(rows), Classes(10), split, take)
