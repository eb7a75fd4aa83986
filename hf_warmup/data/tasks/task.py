"""What a task is when it is ready to be trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from hf_warmup.data.kinds import BuiltInTask


@dataclass(frozen=True)
class Task:
    """A task ready to be trained on.

    Attributes:
        config: what it was made from.
        train, validation, test: data sets of dictionaries.
        collate: list of examples -> batch of tensors.
        num_labels: classes, or tokens or characters in the vocabulary; 1 for a number that is predicted.
        make_model: a fresh model; its random parts come from torch's global generator.
        predicts: what the model's logits mean: "classes" (of an example, or of the token that follows), "values", or
            "tokens", classes of each token of which those labelled -100 do not count.
        label_names: names of the classes, where the metric needs them.
        test_labels: those of the test part, where reading its examples takes long.
    """

    config: BuiltInTask
    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    collate: Callable[[list[Any]], dict[str, torch.Tensor]]
    num_labels: int
    make_model: Callable[[], nn.Module]
    predicts: Literal["classes", "values", "tokens"] = "classes"
    label_names: tuple[str, ...] = ()
    test_labels: tuple[int, ...] = ()

    def sizes(self) -> dict[str, int]:
        """Number of examples in each part."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(part) for name, part in parts.items()}  # type: ignore[arg-type]
