"""A task, its data and its model as a person writes them."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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


class SplitConfig(Strict):
    """Where the three parts come from: a split's name, or a number of examples taken out of `train`."""

    train: str = "train"
    validation: str | Annotated[int, Field(ge=1)] = "validation"
    test: str | Annotated[int, Field(ge=1)] = "test"


# Fields of a task that mean nothing to its kind.
_UNUSED = {
    "text": (),
    "digits": ("dataset", "folder", "subset", "columns", "label_column", "max_length"),
    "characters": ("subset", "columns", "label_column"),
}


class TaskConfig(Strict):
    """One data set with its metric.

    `kind` is text (a Hub data set or folder with text columns), digits (scikit-learn's 8x8 digits) or characters
    (next-character prediction in one text file).
    """

    name: Name
    kind: Literal["text", "digits", "characters"]
    dataset: str | None = None
    # Where this machine keeps a copy of `dataset`: no part of what the study is, hence of no record of it.
    folder: str | None = Field(default=None, exclude=True)
    subset: str | None = None
    columns: list[str] = Field(default_factory=list)
    label_column: str = "label"
    splits: SplitConfig = SplitConfig()
    max_length: int = Field(default=128, ge=2)
    train_examples: int | None = Field(default=None, ge=1)
    metric: Literal["accuracy", "matthews_correlation"] = "accuracy"
    margin: float = Field(default=0.01, gt=0)
    target: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> "TaskConfig":
        for field in _UNUSED[self.kind]:
            if getattr(self, field) != type(self).model_fields[field].get_default(call_default_factory=True):
                raise ValueError(f"`{field}` does not apply to a task of kind {self.kind}; remove it")
        if self.kind != "digits" and self.dataset is None:
            raise ValueError(f"a task of kind {self.kind} needs `dataset`")
        if self.kind == "text" and len(self.columns) not in (1, 2):
            raise ValueError("a task of kind text needs `columns`, one or two names")
        return self


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
    validation: str | Annotated[int, Field(ge=1)] | None = None
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
