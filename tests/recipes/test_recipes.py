"""Recipes: every file is understood, and every study runs, on small data and models made here."""

import json
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import load_study
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.runner import run_study


RECIPES = Path(__file__).parents[2] / "recipes"
STUDIES = sorted((RECIPES / "compare").glob("*.yaml"))
WORDS = [f"w{i}" for i in range(30)]


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_machines_are_understood_by_accelerate(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.use_cpu == path.stem.startswith("cpu")
    assert config.num_processes >= config.num_machines


@pytest.fixture(scope="module")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=40, **sizes)).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def make_data(folder: Path, task: Any) -> Path:
    """What stands in for a task's data: texts of random words, or random characters."""
    drawn = random.Random(0)
    if task.kind == "characters":
        folder.mkdir()
        path = folder / "text.txt"
        path.write_text("".join(drawn.choice("abc \n") for _ in range(128 * 1300)))
        return path
    names = {name for name in (task.splits.train, task.splits.validation, task.splits.test) if isinstance(name, str)}
    for name in names:
        rows: dict[str, Any] = {c: [" ".join(drawn.choices(WORDS, k=5)) for _ in range(1200)] for c in task.columns}
        rows[task.label_column] = [i % 2 for i in range(1200)]
        folder.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows).to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_run(path: Path, small_bert: Path, tmp_path: Path) -> None:
    whole = load_study(path)
    overrides = ["training.epochs=null", "training.num_training_steps=3", "training.on_short_run=warn", "plan=null"]
    overrides.append("tuning_seeds=[]")
    overrides += [
        "training.update_statistics_every=1",
        "tuned_warmup_steps=2",
        "learning_rates=[1.0e-3]",
        "training.batch_size=4",
    ]
    if whole.model.pretrained:
        overrides += [f"model.pretrained={small_bert}", "model.config={}"]
    if whole.model.architecture == "gpt2":
        overrides.append("model.config={n_embd: 16, n_layer: 1, n_head: 2}")
    for i, task in enumerate(whole.tasks):
        if task.kind != "digits":
            overrides.append(f"tasks.{i}.folder={make_data(tmp_path / task.name, task)}")
    study = load_study(path, overrides=tuple(overrides), num_seeds=1)
    short = [arm.model_copy(update={"num_warmup_steps": min(2, arm.num_warmup_steps)}) for arm in study.arms]
    baseline, others = ([arm for arm in short if (arm.name == study.baseline) == which] for which in (True, False))
    study = study.model_copy(update={"arms": [others[-1], *baseline]})
    results = add_verdicts(run_study(comparison_study(study), tmp_path / "out"))
    assert [task["name"] for task in results["tasks"]] == [task.name for task in whole.tasks]
    for run in (run for task in results["tasks"] for arm in task["arms"] for run in arm["runs"]):
        assert run["curve"]["step"] == [1, 2, 3]
        assert min(run["curve"]["update_mean"]) > 0, "every update changed the weights"
        assert not run["diverged"]


@pytest.mark.parametrize(
    "path", sorted((RECIPES / "compare").glob("*/results.json")), ids=lambda path: path.parent.name
)
def test_published_results_are_those_of_the_recipe(path: Path) -> None:
    results = json.loads(path.read_text())
    assert results["config"] == load_study(path.parent.with_suffix(".yaml")).model_dump(mode="json")
    report = (path.parent / "report.md").read_text()
    for verdict in (verdict for task in results["tasks"] for verdict in task["verdicts"]):
        assert verdict["sentence"] in report
    assert add_verdicts(results) == results, "the verdicts follow from the stored scores"
