"""Data of a task: splits that share nothing and never change, and each mistake named with a way out."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import CharactersTask, DigitsTask, TextTask
from hf_warmup.data.tasks import Task, load_task, resolve_pretrained
from hf_warmup.errors import ConfigError


GPT = ModelConfig(architecture="gpt2", config={"n_embd": 8, "n_layer": 1, "n_head": 2})
BLOCKS, LENGTH = 60, 4


@pytest.fixture
def numbered_text(tmp_path: Path) -> Path:
    """A text whose blocks are 0000, 0001, ...: a block says which one it is."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i:04d}" for i in range(BLOCKS)))
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """Train with labels, validation with labels, test with hidden ones."""
    folder = tmp_path / "sentences"
    folder.mkdir()
    for name, labels in (("train", [0, 1, 2] * 4), ("validation", [0, 1]), ("test", [-1, -1])):
        rows = {"sentence": ["good bad good bad"] * len(labels), "label": labels}
        datasets.Dataset.from_dict(rows).to_parquet(folder / f"{name}.parquet")
    return folder


def characters(path: Path, **options: Any) -> Task:
    options = {"splits": {"validation": 10, "test": 20}, **options}
    config = {"name": "text", "kind": "characters", "dataset": str(path), "max_length": LENGTH, **options}
    return load_task(CharactersTask.model_validate(config), GPT)


def text_task(folder: Path, /, **options: Any) -> TextTask:
    config = {"name": "mood", "kind": "text", "dataset": str(folder), "columns": ["sentence"], **options}
    return TextTask.model_validate({"splits": {"validation": "validation", "test": 3}, **config})


def blocks(part: Any) -> list[tuple[int, ...]]:
    return [tuple(example["input_ids"].tolist()) for example in part]


def test_drawn_parts_are_disjoint_and_together_the_whole(numbered_text: Path) -> None:
    task = characters(numbered_text)
    assert task.sizes() == {"train": 30, "validation": 10, "test": 20}
    drawn = [set(blocks(part)) for part in (task.train, task.validation, task.test)]
    assert len(set.union(*drawn)) == sum(len(part) for part in drawn) == BLOCKS


def test_the_draw_does_not_depend_on_the_seed_of_a_run(numbered_text: Path) -> None:
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        task = characters(numbered_text)
        found.append([blocks(part) for part in (task.train, task.validation, task.test)])
    assert found[0] == found[1]
    assert found[0][2] != sorted(found[0][2]), "drawn, not cut off"


def test_fewer_training_examples_leave_the_other_parts_alone(numbered_text: Path) -> None:
    whole, less = characters(numbered_text), characters(numbered_text, train_examples=5)
    assert less.sizes() == {"train": 5, "validation": 10, "test": 20}
    assert blocks(less.test) == blocks(whole.test)
    assert blocks(less.train) == blocks(whole.train)[:5]


def test_characters_are_numbered_and_the_model_fits_them(numbered_text: Path) -> None:
    task = characters(numbered_text)
    assert task.num_labels == 10
    batch = task.collate([task.train[i] for i in range(3)])
    assert task.make_model()(**batch).logits.shape == (3, LENGTH, 10)


def test_text_is_cut_and_padded_and_the_model_has_a_class_per_label(sentences: Path, bert: str) -> None:
    task = load_task(text_task(sentences, max_length=3), ModelConfig(pretrained=bert))
    assert task.sizes() == {"train": 9, "validation": 2, "test": 3}
    assert task.num_labels == 3
    batch = task.collate([task.train[i] for i in range(2)])
    assert batch["input_ids"].tolist() == [[2, 3, 2]] * 2
    assert task.make_model()(**batch).logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": ["text"]}, r"columns text not found; the data has label, sentence"),
        ({"label_column": "stars"}, "columns stars not found"),
        ({"splits": {"validation": "dev", "test": 3}}, "splits dev not found; .* has test, train, validation"),
        ({"splits": {"validation": "validation", "test": "test"}}, r"labels are hidden \(-1\)"),
        ({"splits": {"validation": 6, "test": 6}}, "cannot be taken out of 12 training examples"),
        ({"folder": "no/such/folder"}, "folder 'no/such/folder' cannot be loaded: there is no such file or folder"),
    ],
)
def test_data_that_does_not_fit_is_named(sentences: Path, bert: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_task(text_task(sentences, **options), ModelConfig(pretrained=bert))
    assert "\n" not in str(caught.value)


def test_models_and_files_that_do_not_exist_are_named(sentences: Path, tmp_path: Path, numbered_text: Path) -> None:
    with pytest.raises(ConfigError, match="needs model.pretrained"):
        load_task(text_task(sentences), GPT)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_task(text_task(sentences), ModelConfig(pretrained=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="no_such_package is not installed: pip install no-such-package"):
        resolve_pretrained("package:no_such_package/model")
    with pytest.raises(ConfigError, match="is not a file"):
        characters(tmp_path / "none.txt")
    digits = DigitsTask.model_validate({"name": "d", "kind": "digits", "splits": {"validation": 9, "test": 9}})
    with pytest.raises(ConfigError, match="model.architecture 'no_such'"):
        load_task(digits, ModelConfig(architecture="no_such")).make_model()
