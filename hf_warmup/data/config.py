"""A task, its data and its model as a person writes them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hf_warmup.statistics.metrics import METRICS, Metric
from hf_warmup.yaml_config import Name, Strict


class ModelConfig(Strict):
    """The model: exactly one of `pretrained` and `architecture`."""

    pretrained: str | None = None
    """Hub name, folder, or `package:NAME/FOLDER` of a package that brings the weights."""
    architecture: str | None = None
    """A transformers model type, such as vit or gpt2, to be trained from nothing."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of its transformers configuration that differ from its own."""
    peft: dict[str, Any] | None = None
    """Fields of peft's `LoraConfig`, such as {r: 8}: LoRA instead of training all weights (extra `peft`)."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "ModelConfig":
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError("give exactly one of `pretrained` and `architecture`")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a key that is not used: studies from before it was offered stay what they are."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if key != "peft" or value is not None}


def _some(given: str | int) -> str | int:
    if isinstance(given, int) and given < 1:
        raise ValueError("must be a split's name, or a number of examples of at least 1")
    return given


Part = Annotated[str | int, AfterValidator(_some)]


class SplitConfig(Strict):
    """Where the three parts come from."""

    train: str = "train"
    """Name of the split that is trained on."""
    validation: Part = "validation"
    """A split's name, or a number of examples taken out of `train`; it chooses learning rates. Data without a split
    of the default name give a tenth of `train`."""
    test: Part = "test"
    """The same for the part that judges."""


class TaskConfig(Strict):
    """What tasks of every kind have.

    Kinds are its subclasses, each with a `kind` of its own and the keys that mean something to it.
    """

    name: Name
    """Of the task, in results and pictures."""
    kind: str
    """What is trained; it decides which other keys there are."""
    metric: Any
    """The score that chooses and judges."""
    margin: float | None = Field(default=None, gt=0)
    """The largest difference that still counts as equivalent, in the metric's unit: 0.01 is one point of accuracy, and
    what holds if it is left out. For loss, perplexity and metrics of your own it must be given."""
    target: float | None = None
    """A score on validation data; the report tells after how many updates each arm reached it."""

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


class DataConfig(Strict):
    """A data set: "digits" (see `hf_warmup.data.digits_split`), or a Hub name whose copy may stand in `folder`.

    `validation` is a split's name, or a number of examples drawn out of train; runs are then judged by it after each
    epoch, and the test split meets the finished model alone. `train_examples` and `test_examples` are drawn as well.
    `image_column` and `label_column` are found by themselves where there is one of each. `subset` is which
    configuration of a Hub data set is meant.
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
    subset: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    # Where a model has names for its classes and the data too: which of both counts.
    match_classes: Literal["name", "number"] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "DataConfig":
        if self.name == "digits" and self.folder is not None:
            raise ValueError("`folder` does not apply to the digits, which come with scikit-learn; remove it")
        if self.name == "digits" and self.subset is not None:
            raise ValueError("`subset` does not apply to the digits, which come with scikit-learn; remove it")
        if self.name == "digits" and (self.image_column or self.label_column):
            raise ValueError(
                "columns do not apply to the digits, which are no table; remove image_column, label_column"
            )
        if self.validation in (self.train_split, self.test_split):
            raise ValueError(
                f"validation={self.validation!r} is the train or the test split; name another, or give a number of "
                "examples, which are taken out of train"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a key that is not used: records from before it was offered stay what they are."""
        later = ("validation", "subset", "image_column", "label_column", "match_classes")
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if key not in later or value is not None}
