"""A person's function that makes a Trainer: called with an arm's arguments, its answer checked.

Deliberately absent: how it is found by its name (`models.factory`), and training.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from transformers import Trainer, TrainingArguments

from hf_warmup.errors import ConfigError, first_line, unknown_names


# What a factory must leave as it is.
_OF_THE_ARM = ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "seed", "output_dir")


@dataclass(frozen=True)
class Made:
    """What a factory has made.

    Attributes:
        trainer: not yet trained.
        test: the data set that judges the final weights; None where there is none.
    """

    trainer: Trainer
    test: Any


def make_arguments(factory: Callable[..., Any], values: Mapping[str, Any]) -> TrainingArguments:
    """The arguments that a factory is called with, of the class that its first parameter is annotated with.

    Raises:
        ConfigError: for values that this class does not take.
    """
    kind = _arguments_class(factory)
    if problem := unknown_names(values, [field.name for field in fields(kind) if field.init]):
        raise ConfigError(f"arguments: {kind.__name__} has {problem}.")
    try:
        made = kind(**values)
    except Exception as error:  # transformers raises many kinds, all of which mean: these arguments cannot be used
        raise ConfigError(f"arguments: {kind.__name__} refuses them ({first_line(error)}).") from None
    if made.fp16 and made.device.type == "cpu":
        raise ConfigError("arguments: fp16 needs a GPU, and a CPU takes it without a word; remove it, or write bf16.")
    return made


def _arguments_class(factory: Callable[..., Any]) -> type[TrainingArguments]:
    try:
        hints = get_type_hints(factory)
        first = next(iter(inspect.signature(factory).parameters))
    except (NameError, TypeError, ValueError, StopIteration):
        return TrainingArguments  # type: ignore[no-any-return]
    hint = hints.get(first)
    return hint if isinstance(hint, type) and issubclass(hint, TrainingArguments) else TrainingArguments


def call_factory(name: str, factory: Callable[..., Any], arguments: TrainingArguments) -> Made:
    """A factory's Trainer and test data: returned as a pair, or the Trainer with an attribute `test_dataset`.

    Raises:
        ConfigError: if it returns neither, or has changed what belongs to the arm.
    """
    # The factory may change the very object that it gets.
    wanted = {key: deepcopy(getattr(arguments, key)) for key in _OF_THE_ARM}
    found = factory(arguments)
    trainer, test = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(trainer, Trainer):
        raise ConfigError(
            f"factory {name!r} must return a transformers Trainer, or a pair of a Trainer and a test data set; it "
            f"returned {type(found).__name__}."
        )
    for key in _OF_THE_ARM:
        present = getattr(trainer.args, key)
        if wanted[key] != present:
            raise ConfigError(
                f"factory {name!r}: the Trainer has {key}={present!r}, and the arm asks for {wanted[key]!r}; hand the "
                f"arguments on as they are."
            )
    return Made(trainer, test if test is not None else getattr(trainer, "test_dataset", None))
