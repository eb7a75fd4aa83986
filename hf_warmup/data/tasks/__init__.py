"""A task's data and the model that fits it: a study's names turned into data sets, a collator and a model factory.

All parts hold plain dictionaries in the columns that transformers' models take (`pixel_values` or `input_ids`, and
`labels`), so the loop and the evaluation need not know the task. Splits taken out of `train` are drawn once, with a
fixed seed: every arm and every seed of a study sees the same test set. Deliberately absent: shuffling and batching.
"""

from collections.abc import Callable
from typing import Any

from hf_warmup.data.config import ModelConfig, TaskConfig
from hf_warmup.data.kinds import (
    BuiltInTask,
    CharactersTask,
    DigitsTask,
    ImagesTask,
    LanguageTask,
    TextTask,
    TokensTask,
)
from hf_warmup.data.tasks.language import load_language
from hf_warmup.data.tasks.models import resolve_pretrained
from hf_warmup.data.tasks.pictures import load_pictures
from hf_warmup.data.tasks.small import load_characters, load_digits
from hf_warmup.data.tasks.task import Task
from hf_warmup.data.tasks.text import load_text
from hf_warmup.data.tasks.tokens import load_tokens


__all__ = ["Task", "load_task", "resolve_pretrained"]

_LOADERS: dict[type[TaskConfig], Callable[[Any, ModelConfig], Task]] = {
    CharactersTask: load_characters,
    DigitsTask: load_digits,
    ImagesTask: load_pictures,
    LanguageTask: load_language,
    TextTask: load_text,
    TokensTask: load_tokens,
}


def load_task(task: BuiltInTask, model: ModelConfig) -> Task:
    """Load, split and encode a task's data.

    Raises:
        ConfigError: if data set, split, column or model cannot be found, or a split is too small.
    """
    return _LOADERS[type(task)](task, model)
