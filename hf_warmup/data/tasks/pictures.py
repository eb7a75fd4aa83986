"""Images of any size as a task, for a pretrained model that has its own image processor."""

from typing import Any

import datasets
from transformers import AutoImageProcessor, AutoModelForImageClassification, default_data_collator

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import ImagesTask
from hf_warmup.data.tasks.models import make_model, pretrained, pretrained_name
from hf_warmup.data.tasks.sources import class_numbers, divide, load_splits
from hf_warmup.data.tasks.task import Task
from hf_warmup.errors import ConfigError


def load_pictures(task: ImagesTask, model: ModelConfig) -> Task:
    """A task of kind images; raises as `load_task`.

    Images are read and resized when a batch needs them, so that a data set need not fit into memory.
    """
    name = pretrained_name(task.name, task.kind, model, "image processor")
    raw = load_splits(task, [task.image_column, task.label_column])
    if not isinstance(raw[task.splits.train].features[task.image_column], datasets.Image):
        raise ConfigError(f"task {task.name}: column {task.image_column} holds no images.")
    number, num_labels = class_numbers(raw, task)
    processor = pretrained(AutoImageProcessor, name)

    def encode(examples: dict[str, list[Any]]) -> dict[str, Any]:
        images = [image.convert("RGB") for image in examples[task.image_column]]
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": list(pixels), "labels": [number(each) for each in examples[task.label_column]]}

    train, validation, test = divide(raw, task)
    return Task(
        task,
        train.with_transform(encode),
        validation.with_transform(encode),
        test.with_transform(encode),
        default_data_collator,
        num_labels,
        lambda: make_model(AutoModelForImageClassification, model, {"num_labels": num_labels}),
        test_labels=tuple(number(label) for label in test[task.label_column]),
    )
