"""A task, its data and its model as a person writes them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hf_warmup.statistics.metrics import METRICS, Metric
from hf_warmup.yaml_config import Name, Strict


class ModelConfig(Strict):
    """The model: `pretrained` (Hub name, folder, or `package:NAME/FOLDER`) or `architecture`, a transformers model
    type to be trained from nothing. `config` overrides fields of its transformers configuration."""

    pretrained: str | None = None
    architecture: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_two(self) -> "ModelConfig":
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError("give exactly one of `pretrained` and `architecture`")
        return self


def _some(given: str | int) -> str | int:
    if isinstance(given, int) and given < 1:
        raise ValueError("must be a split's name, or a number of examples of at least 1")
    return given


Part = Annotated[str | int, AfterValidator(_some)]


class SplitConfig(Strict):
    """Where the three parts come from: a split's name, or a number of examples taken out of `train`."""

    train: str = "train"
    validation: Part = "validation"
    test: Part = "test"


class TaskConfig(Strict):
    """What tasks of every kind have.

    Kinds are its subclasses, each with a `kind` of its own and the keys that mean something to it. `margin` is the
    largest difference that still counts as equivalent, and `target` a score on validation data to which updates are
    counted, both in the metric's unit.
    """

    name: Name
    kind: str
    metric: Any
    margin: float | None = Field(default=None, gt=0)
    target: float | None = None

    @property
    def scored_by(self) -> Metric:
        """The metric with its direction and its unit."""
        return self.metric if isinstance(self.metric, Metric) else METRICS[self.metric]

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, given: Any) -> Any:
        """Refuse a key of another kind by that, which says more than that it is unknown."""
        if isinstance(given, dict):
            others = {key for kind in _subclasses(TaskConfig) for key in kind.model_fields} - cls.model_fields.keys()
            for key in given:
                if key in others:
                    raise ValueError(f"`{key}` does not apply to a task of kind {given.get('kind')}; remove it")
        return given

    @model_validator(mode="after")
    def _with_margin(self) -> "TaskConfig":
        usual = self.scored_by.usual_margin
        if self.margin is None and usual is None:
            raise ValueError(
                f"a task whose metric is {self.scored_by.name} needs `margin`, the largest difference that still "
                f"counts as equivalent, in the metric's unit"
            )
        if self.margin is None:
            object.__setattr__(self, "margin", usual)
        return self


def _subclasses(kind: type[TaskConfig]) -> list[type[TaskConfig]]:
    return [found for each in kind.__subclasses__() for found in (each, *_subclasses(each))]


# What documents of the first three kinds hold of keys that mean nothing to them.
_EMPTY: dict[str, Any] = {"dataset": None, "subset": None, "columns": [], "label_column": "label", "max_length": 128}
_ORDER = ("name", "kind", "dataset", "subset", "columns", "label_column", "splits", "max_length", "train_examples")


class _FirstKind(TaskConfig):
    """A kind whose documents hold every key that the first three kinds have, as they always did."""

    splits: SplitConfig = SplitConfig()
    train_examples: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        unused = {key for key in _EMPTY.keys() - cls.model_fields.keys() if given.get(key, ...) == _EMPTY[key]}
        return {key: value for key, value in given.items() if key not in unused}

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = {**_EMPTY, **handler(self)}
        return {key: found[key] for key in (*_ORDER, *(key for key in found if key not in _ORDER))}


class DigitsTask(_FirstKind):
    """scikit-learn's 1,797 digits of 8 x 8 pixels, which need no download."""

    kind: Literal["digits"]
    metric: Literal["accuracy", "f1", "matthews_correlation"] = "accuracy"


class TextTask(_FirstKind):
    """Classification of texts, or of pairs of texts."""

    kind: Literal["text"]
    dataset: str
    # Where this machine keeps a copy of `dataset`: no part of what the study is, hence of no record of it.
    folder: str | None = Field(default=None, exclude=True)
    subset: str | None = None
    columns: list[str] = Field(min_length=1, max_length=2)
    label_column: str = "label"
    max_length: int = Field(default=128, ge=2)
    metric: Literal["accuracy", "f1", "matthews_correlation"] = "accuracy"


class CharactersTask(_FirstKind):
    """Prediction of the next character in one text file."""

    kind: Literal["characters"]
    dataset: str
    # As that of a text.
    folder: str | None = Field(default=None, exclude=True)
    max_length: int = Field(default=128, ge=2)
    metric: Literal["accuracy"] = "accuracy"


BuiltInTask = DigitsTask | TextTask | CharactersTask


class DataConfig(Strict):
    """A data set: "digits" (see `hf_warmup.data.digits_split`), or a Hub name whose copy may stand in `folder`.

    `validation` is a split's name, or a number of examples drawn out of train; runs are then judged by it after each
    epoch, and the test split meets the finished model alone. `train_examples` and `test_examples` are drawn as well.
    """

    name: str
    # Where this machine keeps a copy: no part of what the recipe is.
    folder: str | None = Field(default=None, exclude=True)
    mode: Literal["L", "RGB"] = "RGB"
    train_split: str = "train"
    validation: Part | None = None
    test_split: str = "test"
    train_examples: int | None = Field(default=None, ge=1)
    test_examples: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _distinct(self) -> "DataConfig":
        if self.name == "digits" and self.folder is not None:
            raise ValueError("`folder` does not apply to the digits, which come with scikit-learn; remove it")
        if self.validation in (self.train_split, self.test_split):
            raise ValueError(
                f"validation={self.validation!r} is the train or the test split; name another, or give a number of "
                "examples, which are taken out of train"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a validation split that is not there: records from before it was offered stay what they are."""
        found: dict[str, Any] = handler(self)
        if self.validation is None:
            found.pop("validation", None)
        return found
