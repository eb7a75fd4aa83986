"""Texts as a task for a causal language model: it is to say the token that follows."""

from itertools import chain
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, default_data_collator

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import LanguageTask
from hf_warmup.data.tasks.models import make_model, pretrained, pretrained_name
from hf_warmup.data.tasks.sources import divide, load_splits
from hf_warmup.data.tasks.task import Task
from hf_warmup.errors import ConfigError


def load_language(task: LanguageTask, model: ModelConfig) -> Task:
    """A task of kind language; raises as `load_task`.

    Texts of a split are joined, each ended by the tokenizer's end of a text where it has one, and cut into blocks of
    one length; what is left at the end falls away. All blocks count alike, so a mean over blocks is one over tokens.
    """
    name = pretrained_name(task.name, task.kind, model, "tokenizer")
    raw = load_splits(task, [task.text_column])
    tokenizer = pretrained(AutoTokenizer, name)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    length = task.max_length

    def encode(examples: dict[str, list[Any]]) -> dict[str, Any]:
        texts = [text for text in examples[task.text_column] if text]
        tokens = list(chain.from_iterable([*ids, *end] for ids in tokenizer(texts)["input_ids"])) if texts else []
        blocks = [tokens[start : start + length] for start in range(0, len(tokens) - length + 1, length)]
        return {"input_ids": blocks, "labels": blocks}

    # In one batch, so that only a split's last tokens are lost.
    columns = raw[task.splits.train].column_names
    encoded = raw.map(encode, batched=True, batch_size=None, remove_columns=columns)
    for split, blocks in encoded.items():
        if not len(blocks):
            raise ConfigError(f"task {task.name}: split {split} has fewer than max_length: {length} tokens.")
    return Task(
        task,
        *divide(encoded, task),
        default_data_collator,
        len(tokenizer),
        lambda: make_model(AutoModelForCausalLM, model, {}),
    )
