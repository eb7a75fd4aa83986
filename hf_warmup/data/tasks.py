"""A task's data and the model that fits it: a study's names turned into data sets, a collator and a model factory.

All parts hold plain dictionaries in the columns that transformers' models take (`pixel_values` or `input_ids`, and
`labels`), so the loop and the evaluation need not know the task. Splits taken out of `train` are drawn once, with a
fixed seed: every arm and every seed of a study sees the same test set. Deliberately absent: shuffling and batching.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedConfig,
    default_data_collator,
)

from hf_warmup.data.config import (
    BuiltInTask,
    CharactersTask,
    DigitsTask,
    ModelConfig,
    SplitConfig,
    TaskConfig,
    TextTask,
)
from hf_warmup.data.digits import LEVELS, read_digits
from hf_warmup.data.splits import fixed_order
from hf_warmup.errors import ConfigError, first_line, unknown_names


_AUTO_MODELS = {
    "digits": AutoModelForImageClassification,
    "text": AutoModelForSequenceClassification,
    "characters": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Task:
    """A task ready to be trained on.

    Attributes:
        config: what it was made from.
        train, validation, test: data sets of dictionaries.
        collate: list of examples -> batch of tensors.
        num_labels: classes, or characters in the vocabulary.
        make_model: a fresh model; its random parts come from torch's global generator.
    """

    config: BuiltInTask
    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]
    collate: Callable[[list[Any]], dict[str, torch.Tensor]]
    num_labels: int
    make_model: Callable[[], nn.Module]

    def sizes(self) -> dict[str, int]:
        """Number of examples in each part."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(part) for name, part in parts.items()}  # type: ignore[arg-type]


def load_task(task: BuiltInTask, model: ModelConfig) -> Task:
    """Load, split and encode a task's data.

    Raises:
        ConfigError: if data set, split, column or model cannot be found, or a split is too small.
    """
    return _LOADERS[type(task)](task, model)


def _load_digits(task: DigitsTask, model: ModelConfig) -> Task:
    images, labels = read_digits()
    pixels = images.float() / LEVELS
    whole = datasets.Dataset.from_dict({"pixel_values": pixels.numpy(), "labels": labels.tolist()})
    parts = _in_memory(_split(datasets.DatasetDict({"train": whole.with_format("torch")}), task))
    fixed = {"image_size": 8, "num_channels": 1, "num_labels": 10}
    return Task(task, *parts, default_data_collator, 10, lambda: _make_model(task.kind, model, fixed))


def _load_text(task: TextTask, model: ModelConfig) -> Task:
    if model.pretrained is None:
        raise ConfigError(f"task {task.name}: kind text needs model.pretrained, for its tokenizer.")
    name = resolve_pretrained(model.pretrained)
    raw = _load_dataset(task)
    splits = {
        split for split in (task.splits.train, task.splits.validation, task.splits.test) if isinstance(split, str)
    }
    _require(splits, set(raw), f"task {task.name}: splits", f"{task.dataset} has")
    _require({*task.columns, task.label_column}, set(raw[task.splits.train].column_names), "columns", "the data has")
    tokenizer = _pretrained(AutoTokenizer, name)

    def encode(examples: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(*(examples[c] for c in task.columns), truncation=True, max_length=task.max_length)
        return {**encoded, "labels": examples[task.label_column]}

    used = datasets.DatasetDict({split: raw[split] for split in splits})
    encoded = used.map(encode, batched=True, remove_columns=raw[task.splits.train].column_names)
    parts = _split(encoded, task)
    labels = {int(label) for split in splits for label in encoded[split]["labels"]}
    if min(labels) < 0:
        raise ConfigError(f"task {task.name}: a split's labels are hidden (-1); choose one with labels as test split.")
    num_labels = max(labels) + 1
    return Task(
        task,
        *parts,
        DataCollatorWithPadding(tokenizer),
        num_labels,
        lambda: _make_model(task.kind, model, {"num_labels": num_labels}),
    )


def _load_characters(task: CharactersTask, model: ModelConfig) -> Task:
    path = Path(task.folder or str(task.dataset))
    if not path.is_file():
        raise ConfigError(f"task {task.name}: {path} is not a file; download the text and give its path.")
    text = path.read_text(encoding="utf-8")
    vocabulary = {character: i for i, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([vocabulary[character] for character in text])
    blocks = codes[: len(codes) // task.max_length * task.max_length].view(-1, task.max_length)
    whole = datasets.Dataset.from_dict({"input_ids": blocks.numpy(), "labels": blocks.numpy()})
    parts = _in_memory(_split(datasets.DatasetDict({"train": whole.with_format("torch")}), task))
    size = len(vocabulary)
    fixed = {"vocab_size": size, "n_positions": task.max_length, "bos_token_id": None, "eos_token_id": None}
    return Task(task, *parts, default_data_collator, size, lambda: _make_model(task.kind, model, fixed))


_LOADERS: dict[type[TaskConfig], Callable[[Any, ModelConfig], Task]] = {
    DigitsTask: _load_digits,
    TextTask: _load_text,
    CharactersTask: _load_characters,
}


def _load_dataset(task: TextTask) -> Any:
    try:
        return datasets.load_dataset(task.folder or str(task.dataset), None if task.folder else task.subset)
    except Exception as error:  # datasets raises many kinds, all of which mean: cannot be had
        raise ConfigError(
            f"task {task.name}: data set {task.dataset!r} cannot be loaded ({first_line(error)}); a local folder "
            f"with the same columns does as well: tasks.N.folder=FOLDER."
        ) from None


def _split(parts: Any, task: BuiltInTask) -> tuple[Any, Any, Any]:
    """Train, validation and test; parts given as numbers are drawn out of train, validation first."""
    splits: SplitConfig = task.splits
    named = {name for name in (splits.train, splits.validation, splits.test) if isinstance(name, str)}
    _require(named, set(parts), f"task {task.name}: splits", "there are")
    train = parts[splits.train]
    drawn = {name: size for name in ("validation", "test") if isinstance(size := getattr(splits, name), int)}
    if sum(drawn.values()) >= len(train):
        raise ConfigError(f"task {task.name}: {drawn} cannot be taken out of {len(train)} training examples.")
    order = fixed_order(len(train)).tolist()
    chosen = {name: parts[split] for name in ("validation", "test") if isinstance(split := getattr(splits, name), str)}
    for name, size in drawn.items():
        chosen[name] = train.select(order[:size])
        order = order[size:]
    train = train.select(order[: task.train_examples])
    return train, chosen["validation"], chosen["test"]


def _in_memory(parts: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Small parts as lists of examples: to read them from Arrow takes longer than a small model's update."""
    train, validation, test = map(list, parts)
    return train, validation, test


def resolve_pretrained(name: str) -> str:
    """A model's name as transformers takes it; `package:NAME/FOLDER` becomes that installed package's folder.

    Raises:
        ConfigError: if the package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model {name!r}: package {package} is not installed: pip install {package.replace('_', '-')}."
        )
    return str(Path(spec.origin).parent / folder)


def _make_model(kind: str, model: ModelConfig, fixed: dict[str, Any]) -> nn.Module:
    if clash := sorted(name for name in fixed if model.config.get(name, fixed[name]) != fixed[name]):
        raise ConfigError(f"model.config.{clash[0]} is {fixed[clash[0]]}, as the data has it; remove it.")
    overrides = {**model.config, **fixed}
    if model.architecture is not None:
        try:
            default = AutoConfig.for_model(model.architecture)
        except ValueError as error:
            raise ConfigError(f"model.architecture {model.architecture!r}: {first_line(error)[:200]}") from None
        _check_fields(default, model.config)
        try:
            config = AutoConfig.for_model(model.architecture, **overrides)
            made: nn.Module = _AUTO_MODELS[kind].from_config(config)
        except Exception as error:  # transformers and torch raise many kinds, all of which mean: cannot be built
            raise ConfigError(
                f"model.config {model.config}: {model.architecture} cannot be built ({first_line(error)[:200]})."
            ) from None
        return made
    name = resolve_pretrained(str(model.pretrained))
    if model.config:
        _check_fields(_pretrained(AutoConfig, name), model.config)
    loaded: nn.Module = _pretrained(_AUTO_MODELS[kind], name, use_safetensors=True, **overrides)
    return loaded


def _check_fields(config: PreTrainedConfig, given: dict[str, Any]) -> None:
    """Refuse fields that a config does not have: transformers would keep them, and no model would read them."""
    known = {*config.to_dict(), *config.attribute_map}
    # Properties, such as num_labels, are in no dictionary.
    known |= {name for name in given if hasattr(config, name) and not callable(getattr(config, name))}
    if problem := unknown_names(given, known):
        raise ConfigError(f"model.config: {config.model_type} has {problem}.")


def _pretrained(factory: Any, name: str, **options: Any) -> Any:
    try:
        return factory.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"model {name!r} cannot be loaded: {first_line(error)}") from None


def _require(wanted: set[str], present: set[str], what: str, where: str) -> None:
    missing = sorted(wanted - present)
    if missing:
        raise ConfigError(f"{what} {', '.join(missing)} not found; {where} {', '.join(sorted(present))}.")
