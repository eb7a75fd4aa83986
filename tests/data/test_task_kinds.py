"""Kinds of tasks on a person's own files: what is read, what is encoded, and each mistake named with a way out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from tiny_models import save_bert, save_gpt2, save_vit

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.kinds import BuiltInTask
from hf_warmup.data.tasks import Task, load_task
from hf_warmup.errors import ConfigError
from hf_warmup.studies.comparison.constants import constant_scores


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    makers: dict[str, Callable[[Path], str]] = {"bert": save_bert, "gpt2": save_gpt2, "vit": save_vit}
    return {name: make(base / name) for name, make in makers.items()}


def task_of(model: str | ModelConfig, **keys: Any) -> Task:
    task: BuiltInTask = TypeAdapter(BuiltInTask).validate_python({"name": "own", **keys})
    return load_task(task, ModelConfig(pretrained=model) if isinstance(model, str) else model)


def write_reviews(path: Path, rows: int = 20) -> Path:
    lines = [f"{'so good' if i % 3 else 'not bad'},{'up' if i % 3 else 'down'},{i / 4}" for i in range(rows)]
    path.write_text("\n".join(["review,mood,stars", *lines]))
    return path


def test_a_csv_and_two_column_names_are_enough(tmp_path: Path, pretrained: dict[str, str]) -> None:
    file = write_reviews(tmp_path / "reviews.csv")
    for folder in (file, tmp_path):
        task = task_of(pretrained["bert"], kind="text", folder=str(folder), columns=["review"], label_column="mood")
        # Without splits of its own: a tenth each for choosing and judging.
        assert task.sizes() == {"train": 16, "validation": 2, "test": 2}
        labels = {(tuple(row["input_ids"]), row["labels"]) for row in task.train}
        assert labels == {((5, 3), 1), ((6, 4), 0)}, "classes go by the alphabet"
    assert task.config.model_dump()["folder"] == str(tmp_path), "without a name on the Hub it says what the study is"


def test_json_lines_and_parquet_are_read_like_csv(tmp_path: Path, pretrained: dict[str, str]) -> None:
    rows = [{"a": "good", "b": "bad", "label": i % 2} for i in range(10)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.parquet"):
        task = task_of(pretrained["bert"], kind="text", folder=str(tmp_path / name), columns=["a", "b"])
        assert task.num_labels == 2
        assert task.train[0]["input_ids"] == [3, 4]


def test_numbers_are_predicted_under_a_correlation(tmp_path: Path, pretrained: dict[str, str]) -> None:
    keys = {"kind": "text", "folder": str(write_reviews(tmp_path / "r.csv")), "columns": ["review"]}
    task = task_of(pretrained["bert"], **keys, label_column="stars", metric="spearman")
    batch = task.collate([task.train[i] for i in range(3)])
    assert batch["labels"].dtype == torch.float32
    with torch.no_grad():
        output = task.make_model()(**batch)
    assert output.logits.shape == (3, 1)
    assert output.loss == pytest.approx(float((output.logits[:, 0] - batch["labels"]).square().mean()), rel=1e-5)
    assert constant_scores(task) == [0.0]
    with pytest.raises(ConfigError, match="classes must be words or whole numbers, got .*; for numbers to predict"):
        task_of(pretrained["bert"], **keys, label_column="stars")
    with pytest.raises(ConfigError, match="column mood: pearson needs numbers, got '(up|down)'"):
        task_of(pretrained["bert"], **keys, label_column="mood", metric="pearson")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"columns": ["text"]}, "columns text not found; the data has mood, review, stars"),
        ({"label_column": "label"}, "columns label not found; the data has mood, review, stars"),
        ({"splits": {"validation": "dev"}}, "splits dev not found; .* has train. A number takes so many examples"),
        ({"folder": "reviews.xls"}, "cannot be loaded: there is no such file"),
        ({"folder": __file__}, "cannot be loaded: a file must end in one of .csv, "),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, pretrained: dict[str, str], keys: dict[str, Any], expected: str
) -> None:
    own = {"folder": str(write_reviews(tmp_path / "r.csv")), "columns": ["review"], "label_column": "mood"}
    with pytest.raises(ConfigError, match=expected) as caught:
        task_of(pretrained["bert"], kind="text", **{**own, **keys})
    assert "\n" not in str(caught.value)


def write_entities(path: Path, labels: list[list[Any]]) -> Path:
    words = [["Ada", "not", "so"], ["Rome", "good"], ["bad"]]
    path.write_text("\n".join(json.dumps({"tokens": w, "ner_tags": t}) for w, t in zip(words, labels, strict=True)))
    return path


def test_words_have_labels_and_what_the_tokenizer_adds_has_none(tmp_path: Path, pretrained: dict[str, str]) -> None:
    named = [["B-PER", "O", "O"], ["B-LOC", "O"], ["O"]]
    numbered = [[1, 0, 0], [2, 0], [0]]
    for labels, keys in ((named, {}), (numbered, {"label_names": ["O", "B-PER", "B-LOC"]})):
        file = write_entities(tmp_path / f"{len(keys)}.jsonl", labels)
        splits = {"validation": 1, "test": 1}
        task = task_of(pretrained["bert"], kind="tokens", folder=str(file), splits=splits, max_length=2, **keys)
        names = task.label_names
        assert set(names) == {"O", "B-PER", "B-LOC"}
        found = {tuple(row["input_ids"]): [names[i] for i in row["labels"]] for row in (*task.train, *task.test)}
        whole = {(7, 6): ["B-PER", "O"], (8, 3): ["B-LOC", "O"], (4,): ["O"]}
        assert all(whole[ids] == row for ids, row in found.items()), "cut off at two tokens"
        batch = task.collate([{"input_ids": [7, 6], "labels": [0, 1]}, {"input_ids": [4], "labels": [1]}])
        assert batch["labels"].tolist() == [[0, 1], [1, -100]]
    with pytest.raises(ConfigError, match="holds numbers without names; give `label_names`"):
        task_of(pretrained["bert"], kind="tokens", folder=str(file), splits=splits)
    bad = write_entities(tmp_path / "bad.jsonl", [["O", "O"], ["O", "O"], ["O"]])
    with pytest.raises(ConfigError, match="as many labels in ner_tags as words in tokens"):
        task_of(pretrained["bert"], kind="tokens", folder=str(bad), splits=splits)


def test_all_one_label_is_what_a_tagger_that_learned_nothing_says(tmp_path: Path, pretrained: dict[str, str]) -> None:
    file = write_entities(tmp_path / "x.jsonl", [["B-PER", "O", "O"], ["B-LOC", "O"], ["O"]])
    task = task_of(pretrained["bert"], kind="tokens", folder=str(file), splits={"validation": 1, "test": 1})
    names = task.label_names
    [row] = [[names[label] for label in row["labels"]] for row in task.test]
    # B everywhere marks each word as an entity: 2 / (entities found + entities there) if one of its type is there.
    expected = {0.0} | {2 / (len(row) + 1) for name in row if name != "O"}
    assert set(constant_scores(task)) == expected


def write_images(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (9, 15 + i), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return folder


def test_a_folder_a_class_and_the_models_own_size(tmp_path: Path, pretrained: dict[str, str]) -> None:
    task = task_of(pretrained["vit"], kind="images", folder=str(write_images(tmp_path)), splits={"validation": 2})
    assert task.sizes() == {"train": 6, "validation": 2, "test": 4}
    batch = task.collate([task.train[i] for i in range(2)])
    assert batch["pixel_values"].shape == (2, 3, 12, 12)
    assert batch["pixel_values"].min() < -0.5, "normalised as the model had it"
    torch.manual_seed(0)
    first = task.make_model()
    torch.manual_seed(0)
    again = task.make_model()
    assert first(**batch).logits.shape == (2, 2), "a head of five classes is replaced"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert constant_scores(task) == [0.5]
    wrong = ModelConfig(pretrained=pretrained["vit"], config={"hidden_size": 16})
    other = task_of(wrong, kind="images", folder=str(tmp_path), splits={"validation": 2})
    with pytest.raises(ConfigError, match=r"is \(5, 8\), but model.config .*hidden_size.* makes it \(2, 16\)"):
        other.make_model()


def test_texts_are_joined_and_cut_into_blocks(tmp_path: Path, pretrained: dict[str, str]) -> None:
    (tmp_path / "x.txt").write_text("good bad\nso\n\n" * 20)
    keys = {"kind": "language", "folder": str(tmp_path / "x.txt"), "max_length": 5, "margin": 0.01}
    task = task_of(pretrained["gpt2"], **keys)
    assert task.sizes() == {"train": 16, "validation": 2, "test": 2}
    assert {tuple(row["input_ids"]) for row in task.train} == {(3, 4, 2, 5, 2)}
    batch = task.collate([task.train[i] for i in range(2)])
    assert task.make_model()(**batch).loss > 1.0
    # Four of five tokens follow another: bad, end, so, end.
    assert constant_scores(task) == pytest.approx([-(0.5 * np.log(0.5) + 0.5 * np.log(0.25))])
    whole = task_of(pretrained["gpt2"], **{**keys, "metric": "perplexity"})
    assert constant_scores(whole) == pytest.approx([np.exp(constant_scores(task)[0])])
    with pytest.raises(ConfigError, match="split train has fewer than max_length: 500 tokens"):
        task_of(pretrained["gpt2"], **{**keys, "max_length": 500})
    with pytest.raises(ConfigError, match="columns body not found; the data has text"):
        task_of(pretrained["gpt2"], **keys, text_column="body")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"kind": "language", "folder": "x"}, "metric is loss needs `margin`"),
        ({"kind": "text", "columns": ["a"]}, "needs `folder`, your own files, or `dataset`, a Hub name"),
        ({"kind": "characters"}, "needs `folder` or `dataset`, the path of a text file"),
    ],
)
def test_what_a_task_cannot_do_without(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TypeAdapter(BuiltInTask).validate_python({"name": "own", **keys})
