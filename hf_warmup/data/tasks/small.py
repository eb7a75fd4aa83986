"""Tasks that need no pretrained model: scikit-learn's digits, and the characters of one text."""

from pathlib import Path

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, default_data_collator

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.digits import LEVELS, read_digits
from hf_warmup.data.kinds import CharactersTask, DigitsTask
from hf_warmup.data.tasks.models import make_model
from hf_warmup.data.tasks.sources import divide
from hf_warmup.data.tasks.task import Task
from hf_warmup.errors import ConfigError


def load_digits(task: DigitsTask, model: ModelConfig) -> Task:
    """A task of kind digits; raises as `load_task`."""
    images, labels = read_digits()
    pixels = images.float() / LEVELS
    whole = datasets.Dataset.from_dict({"pixel_values": pixels.numpy(), "labels": labels.tolist()})
    parts = divide(datasets.DatasetDict({"train": whole.with_format("torch")}), task)
    fixed = {"image_size": 8, "num_channels": 1, "num_labels": 10}
    return Task(
        task, *parts, default_data_collator, 10, lambda: make_model(AutoModelForImageClassification, model, fixed)
    )


def load_characters(task: CharactersTask, model: ModelConfig) -> Task:
    """A task of kind characters; raises as `load_task`."""
    path = Path(task.folder or str(task.dataset))
    if not path.is_file():
        raise ConfigError(f"task {task.name}: {path} is not a file; download the text and give its path.")
    text = path.read_text(encoding="utf-8")
    vocabulary = {character: i for i, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([vocabulary[character] for character in text])
    blocks = codes[: len(codes) // task.max_length * task.max_length].view(-1, task.max_length)
    whole = datasets.Dataset.from_dict({"input_ids": blocks.numpy(), "labels": blocks.numpy()})
    parts = divide(datasets.DatasetDict({"train": whole.with_format("torch")}), task)
    size = len(vocabulary)
    fixed = {"vocab_size": size, "n_positions": task.max_length, "bos_token_id": None, "eos_token_id": None}
    return Task(task, *parts, default_data_collator, size, lambda: make_model(AutoModelForCausalLM, model, fixed))
