"""Kinds of tasks whose data and model this package loads: what a person writes of each.

Deliberately absent: how they are loaded (`tasks`).
"""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hf_warmup.data.config import SplitConfig, TaskConfig


REGRESSION = ("pearson", "spearman")

# What documents of the first three kinds hold of keys that mean nothing to them, and the order of their keys.
_EMPTY: dict[str, Any] = {"dataset": None, "subset": None, "columns": [], "label_column": "label", "max_length": 128}
_ORDER = ("name", "kind", "dataset", "subset", "columns", "label_column", "splits", "max_length", "train_examples")


class _BuiltIn(TaskConfig):
    splits: SplitConfig = SplitConfig()
    """Which examples are for training, choosing and judging."""
    train_examples: int | None = Field(default=None, ge=1)
    """So many training examples, drawn once; all if it is left out."""


class _FirstKind(_BuiltIn):
    """A kind whose documents hold every key that the first three kinds have, as they always did."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        unused = {key for key in _EMPTY.keys() - cls.model_fields.keys() if given.get(key, ...) == _EMPTY[key]}
        return {key: value for key, value in given.items() if key not in unused}

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = {**_EMPTY, **_recorded(self, handler(self))}
        return {key: found[key] for key in (*_ORDER, *(key for key in found if key not in _ORDER))}


class _Loaded(_BuiltIn):
    """Data from the Hub or from files."""

    dataset: str | None = None
    """Name of a data set on the Hub; not needed where `folder` is given."""
    folder: str | None = None
    """Files of your own: a folder, or one file, of CSV, JSON lines, Parquet or text (images: one folder a class).
    Beside `dataset` it is where this machine keeps a copy, and no part of what the study is."""
    subset: str | None = None
    """Which configuration of a Hub data set, such as mrpc of glue."""

    @model_validator(mode="after")
    def _has_data(self) -> "_Loaded":
        if self.dataset is None and self.folder is None:
            raise ValueError(f"a task of kind {self.kind} needs `folder`, your own files, or `dataset`, a Hub name")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _recorded(self, handler(self))


def _recorded(task: TaskConfig, found: dict[str, Any]) -> dict[str, Any]:
    """A task's keys without the place of a copy, which differs between machines."""
    if getattr(task, "dataset", None) is not None:
        found.pop("folder", None)
    return found


class DigitsTask(_FirstKind):
    """scikit-learn's 1,797 digits of 8 x 8 pixels, which need no download."""

    kind: Literal["digits"]
    metric: Literal["accuracy", "f1", "matthews_correlation"] = "accuracy"


class TextTask(_FirstKind, _Loaded):
    """Classes of texts, or of pairs of texts; under `pearson` and `spearman` numbers instead of classes."""

    kind: Literal["text"]
    columns: list[str] = Field(min_length=1, max_length=2)
    """The column of the texts; two for pairs."""
    label_column: str = "label"
    """The column of the classes, which may be words or whole numbers from 0 on, or of the numbers to predict."""
    max_length: int = Field(default=128, ge=2)
    """Tokens after which a text is cut off."""
    metric: Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"] = "accuracy"
    """`f1` is that of class 1 of two classes, and the mean over more."""


class TokensTask(_Loaded):
    """Classes of words, such as named entities."""

    kind: Literal["tokens"]
    tokens_column: str = "tokens"
    """The column of lists of words."""
    label_column: str = "ner_tags"
    """The column of lists of labels: names such as B-PER, or numbers of `label_names`."""
    label_names: list[str] = Field(default_factory=list)
    """Names of the labels, where the data hold numbers without names."""
    max_length: int = Field(default=128, ge=2)
    """Tokens after which a text is cut off; words behind count neither for training nor for the score."""
    metric: Literal["entity_f1", "accuracy"] = "entity_f1"
    """`entity_f1` counts whole entities, as seqeval does."""


class ImagesTask(_Loaded):
    """Classes of images, of any size: the pretrained model's own image processor resizes and normalises them."""

    kind: Literal["images"]
    image_column: str = "image"
    """The column of the images."""
    label_column: str = "label"
    """The column of the classes, words or whole numbers."""
    metric: Literal["accuracy", "f1", "matthews_correlation"] = "accuracy"


class LanguageTask(_Loaded):
    """Next-token prediction: a pretrained causal language model goes on with texts, joined and cut into blocks."""

    kind: Literal["language"]
    text_column: str = "text"
    """The column of the texts; that of plain text files is text."""
    max_length: int = Field(default=128, ge=2)
    """Tokens of a block."""
    metric: Literal["loss", "perplexity", "accuracy"] = "loss"
    """`loss` is in nats a token, `perplexity` its exponential."""


class CharactersTask(_FirstKind):
    """Prediction of the next character in one text file."""

    kind: Literal["characters"]
    dataset: str | None = None
    """Path of the text; not needed where `folder` is given."""
    folder: str | None = None
    """Path of this machine's copy of the text."""
    max_length: int = Field(default=128, ge=2)
    """Characters of a block."""
    metric: Literal["accuracy", "loss", "perplexity"] = "accuracy"

    @model_validator(mode="after")
    def _has_data(self) -> "CharactersTask":
        if self.dataset is None and self.folder is None:
            raise ValueError("a task of kind characters needs `folder` or `dataset`, the path of a text file")
        return self


BuiltInTask = DigitsTask | TextTask | TokensTask | ImagesTask | LanguageTask | CharactersTask
