"""Texts as a task: classes, or numbers to predict, of one or two texts."""

import math
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import REGRESSION, TextTask
from hf_warmup.data.tasks.models import make_model, pretrained, pretrained_name
from hf_warmup.data.tasks.sources import class_numbers, divide, load_splits
from hf_warmup.data.tasks.task import Task
from hf_warmup.errors import ConfigError


def load_text(task: TextTask, model: ModelConfig) -> Task:
    """A task of kind text; raises as `load_task`."""
    name = pretrained_name(task.name, task.kind, model, "tokenizer")
    raw = load_splits(task, [*task.columns, task.label_column])
    values = task.metric in REGRESSION
    label, num_labels = (float, 1) if values else class_numbers(raw, task)
    if values:
        _check_numbers(raw, task)
    tokenizer = pretrained(AutoTokenizer, name)

    def encode(examples: dict[str, list[Any]]) -> dict[str, Any]:
        texts = ([text if text is not None else "" for text in examples[column]] for column in task.columns)
        encoded = tokenizer(*texts, truncation=True, max_length=task.max_length)
        return {**encoded, "labels": [label(each) for each in examples[task.label_column]]}

    encoded = raw.map(encode, batched=True, remove_columns=raw[task.splits.train].column_names)
    fixed = {"num_labels": num_labels, **({"problem_type": "regression"} if values else {})}
    return Task(
        task,
        *divide(encoded, task),
        DataCollatorWithPadding(tokenizer),
        num_labels,
        lambda: make_model(AutoModelForSequenceClassification, model, fixed),
        predicts="values" if values else "classes",
    )


def _check_numbers(raw: Any, task: TextTask) -> None:
    for split in raw.values():
        for value in split.unique(task.label_column):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigError(
                    f"task {task.name}: column {task.label_column}: {task.metric} needs numbers, got {value!r}."
                )
