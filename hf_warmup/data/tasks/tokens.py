"""Words of sentences as a task: each word has a label, such as that of a named entity."""

from typing import Any

from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import TokensTask
from hf_warmup.data.tasks.models import make_model, pretrained, pretrained_name
from hf_warmup.data.tasks.sources import divide, load_splits
from hf_warmup.data.tasks.task import Task
from hf_warmup.errors import ConfigError


# Labels that count for nothing, as in torch's cross entropy.
IGNORED = -100


def load_tokens(task: TokensTask, model: ModelConfig) -> Task:
    """A task of kind tokens; raises as `load_task`.

    A word's first piece carries its label; its other pieces, and what the tokenizer adds, count for nothing.
    """
    name = pretrained_name(task.name, task.kind, model, "tokenizer")
    raw = load_splits(task, [task.tokens_column, task.label_column])
    names = _label_names(raw, task)
    tokenizer = pretrained(AutoTokenizer, name, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise ConfigError(f"task {task.name}: the tokenizer of {name!r} does not say which word a token is of.")
    numbers = {label: i for i, label in enumerate(names)}

    def encode(examples: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(
            examples[task.tokens_column], is_split_into_words=True, truncation=True, max_length=task.max_length
        )
        labels = []
        for i, words in enumerate(examples[task.label_column]):
            known = [numbers[word] if isinstance(word, str) else word for word in words]
            places = encoded.word_ids(i)
            before = [None, *places[:-1]]
            labels.append([IGNORED if p is None or p == q else known[p] for p, q in zip(places, before, strict=True)])
        return {**encoded, "labels": labels}

    encoded = raw.map(encode, batched=True, remove_columns=raw[task.splits.train].column_names)
    return Task(
        task,
        *divide(encoded, task),
        DataCollatorForTokenClassification(tokenizer, label_pad_token_id=IGNORED),
        len(names),
        lambda: make_model(AutoModelForTokenClassification, model, {"num_labels": len(names)}),
        predicts="tokens",
        label_names=tuple(names),
    )


def _label_names(raw: Any, task: TokensTask) -> list[str]:
    """Names of the labels: as stated, as the data set's own, or the words that stand in the column."""
    where = f"task {task.name}: column {task.label_column}"
    train = raw[task.splits.train]
    found = {label for split in raw.values() for labels in split[task.label_column] for label in labels}
    for split in raw.values():
        _check_lengths(split, task)
    if found and all(isinstance(label, str) for label in found):
        names = task.label_names or sorted(found)
        if unknown := sorted(found - set(names)):
            raise ConfigError(f"{where}: {', '.join(unknown)} not among label_names {', '.join(names)}.")
        return names
    stated = getattr(getattr(train.features[task.label_column], "feature", None), "names", None)
    names = task.label_names or list(stated or [])
    if not all(isinstance(label, int) for label in found):
        raise ConfigError(f"{where}: must hold lists of names or of whole numbers.")
    if not names:
        raise ConfigError(f"{where}: holds numbers without names; give `label_names`, such as [O, B-PER, I-PER].")
    if not all(0 <= label < len(names) for label in found):
        raise ConfigError(f"{where}: there are labels from {min(found)} to {max(found)}, and {len(names)} names.")
    return names


def _check_lengths(split: Any, task: TokensTask) -> None:
    for row, (words, labels) in enumerate(zip(split[task.tokens_column], split[task.label_column], strict=True)):
        if not isinstance(words, list) or not isinstance(labels, list) or len(words) != len(labels):
            raise ConfigError(
                f"task {task.name}: each row needs as many labels in {task.label_column} as words in "
                f"{task.tokens_column}, as lists; row {row} has {labels!r:.60} for {words!r:.60}."
            )
