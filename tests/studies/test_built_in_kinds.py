"""Studies of every built-in kind: trained for a few updates, scored in their own metric, reported in its unit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_bert, save_gpt2, save_vit

from hf_warmup.data.config import ModelConfig
from hf_warmup.data.tasks import load_task
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.run import run_cell
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.runner import run_study
from hf_warmup.yaml_config import validate


def study(model: dict[str, Any], task: dict[str, Any], **keys: Any) -> StudyConfig:
    document: dict[str, Any] = {
        "name": "own",
        "model": model,
        "tasks": [{"name": "own", "margin": 0.05, **task}],
        "training": {"num_training_steps": 24, "batch_size": 4, "beta2": 0.75, "evaluate_every": 12},
        "learning_rates": [0.03],
        "seeds": [0],
        "arms": [{"name": "adamw", "optimizer": "adamw"}, {"name": "radam", "optimizer": "radam"}],
        "tuned_warmup_steps": 4,
    }
    return validate(StudyConfig, {**document, **keys}, "test")


def scored(config: StudyConfig, folder: Path) -> Record:
    results = run_study(comparison_study(config), folder)
    assert results is not None
    [task] = add_verdicts(results)["tasks"]
    return task


def texts(path: Path) -> Path:
    rows = [f"{'so good' if i % 2 else 'not bad'},{i % 2},{i % 2 + 0.5}" for i in range(40)]
    path.write_text("\n".join(["text,label,stars", *rows]))
    return path


def entities(path: Path) -> Path:
    rows = [{"tokens": ["Ada", "not", "so"][i % 3 :], "ner_tags": ["B-PER", "O", "O"][i % 3 :]} for i in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def images(folder: Path) -> Path:
    for name, shade in (("dark", 30), ("light", 220)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((8 + i % 3, 10), shade, dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("metric", "column", "best"), [("f1", "label", 0.9), ("pearson", "stars", 0.9), ("spearman", "stars", 0.9)]
)
def test_texts_are_learned(tmp_path: Path, metric: str, column: str, best: float) -> None:
    task = {"kind": "text", "folder": str(texts(tmp_path / "x.csv")), "columns": ["text"], "label_column": column}
    config = study({"pretrained": save_bert(tmp_path / "bert")}, {**task, "metric": metric})
    found = scored(config, tmp_path / "out")
    assert found["arms"][1]["runs"][0]["test"] > best
    assert "points" not in found["verdicts"][0]["sentence"]


def test_words_are_learned_though_batches_differ_in_length(tmp_path: Path) -> None:
    task = {"kind": "tokens", "folder": str(entities(tmp_path / "x.jsonl"))}
    config = study({"pretrained": save_bert(tmp_path / "bert")}, {**task, "splits": {"validation": 6, "test": 6}})
    found = scored(config, tmp_path / "out")
    assert found["arms"][1]["runs"][0]["test"] > 0.5
    assert found["num_labels"] == 2
    words = scored(study(config.model_dump()["model"], {**task, "metric": "accuracy"}), tmp_path / "words")
    assert 0.5 < words["arms"][1]["runs"][0]["test"] <= 1.0


def test_images_are_learned(tmp_path: Path) -> None:
    task = {"kind": "images", "folder": str(images(tmp_path / "x")), "splits": {"validation": 4, "test": 8}}
    found = scored(study({"pretrained": save_vit(tmp_path / "vit")}, task), tmp_path / "out")
    assert found["arms"][1]["runs"][0]["test"] > 0.9
    assert found["sizes"] == {"train": 12, "validation": 4, "test": 8}
    assert "points of accuracy" in found["verdicts"][0]["sentence"]


@pytest.fixture
def language(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "x.txt").write_text("so good not bad\n" * 60)
    return {"kind": "language", "folder": str(tmp_path / "x.txt"), "max_length": 10}


def test_a_language_model_is_judged_by_its_loss_and_the_smaller_one_is_better(
    tmp_path: Path, language: dict[str, Any]
) -> None:
    model = {"pretrained": save_gpt2(tmp_path / "gpt2")}
    config = study(model, language, learning_rates=[1.0e-5, 0.1], tuning_seeds=[7])
    found = scored(config, tmp_path / "out")
    for arm in found["arms"]:
        assert arm["learning_rate"] == 0.1, "that of the smallest loss"
        assert arm["runs"][0]["test"] < found["constant_score"][0]
        grid = {entry["learning_rate"]: entry["validation"][0] for entry in arm["grid"]}
        assert grid[0.1] < grid[1.0e-5]
    perplexity = scored(study(model, {**language, "metric": "perplexity"}, learning_rates=[0.1]), tmp_path / "two")
    first = [each["arms"][0]["runs"][0]["test"] for each in (found, perplexity)]
    assert first[1] == pytest.approx(np.exp(first[0]))


# peft 0.21 asks for what transformers 5.24 calls by another name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_trains_few_weights_and_a_head(tmp_path: Path, language: dict[str, Any]) -> None:
    peft = {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    model = {"pretrained": save_gpt2(tmp_path / "gpt2"), "peft": peft}
    config = study(model, language)
    task = load_task(config.tasks[0], ModelConfig.model_validate(model))
    trained = [name for name, each in task.make_model().named_parameters() if each.requires_grad]
    assert len(trained) == 2
    assert all("lora" in name for name in trained)
    assert config.training is not None
    [cell, _] = comparison_study(config).cells
    runs = []
    for _ in range(2):
        torch.manual_seed(len(runs))
        runs.append(list(run_cell(task, config.training, cell)))
    assert runs[0] == runs[1], "what is drawn for LoRA follows from the seed of the run"
    losses = [record["loss"] for record in runs[0] if record["kind"] == "step"]
    assert losses[-1] < losses[0]
    texts_task = {"kind": "text", "folder": str(texts(tmp_path / "x.csv")), "columns": ["text"]}
    bert = ModelConfig(pretrained=save_bert(tmp_path / "bert"), peft={"r": 2})
    classes = load_task(study({"architecture": "bert"}, texts_task).tasks[0], bert)
    trained = [name for name, each in classes.make_model().named_parameters() if each.requires_grad]
    assert any("classifier" in name for name in trained)
    for wrong, expected in (({"rank": 2}, "LoraConfig has .*rank"), ({"target_modules": ["x"]}, "cannot be used: ")):
        with pytest.raises(ConfigError, match=expected):
            load_task(config.tasks[0], ModelConfig(pretrained=model["pretrained"], peft=wrong)).make_model()
    with pytest.raises(ConfigError, match="LoraConfig has .*rank"):
        comparison_study(study({**model, "peft": {"rank": 2}}, language))  # before anything is written
