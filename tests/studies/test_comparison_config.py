"""Studies: what is accepted, and that each mistake is named in one line with its place and a way out."""

import json
from pathlib import Path

import pytest

from hf_warmup.errors import ConfigError
from hf_warmup.studies.comparison.config import StudyConfig, default_arms, load_study


STUDY = """
name: small
model: {architecture: vit, config: {hidden_size: 8}}
tasks: [{name: digits, kind: digits, splits: {validation: 300, test: 297}}]
training: {num_training_steps: 10, batch_size: 4, beta2: 0.75}
tuned_warmup_steps: 2
learning_rates: [1.0e-3]
seeds: [0]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return file


def test_arms_in_short_are_those_in_full_and_the_last_is_the_baseline(path: Path) -> None:
    arms = "arms=[radam+untuned_linear_warmup, torch.optim.NAdam, adamw]"
    study = load_study(path, overrides=(arms,))
    assert [(arm.name, arm.optimizer, arm.warmup) for arm in study.arms] == [
        ("radam+untuned_linear_warmup", "radam", "untuned_linear_warmup"),
        ("torch.optim.NAdam", "torch.optim.NAdam", None),
        ("adamw", "adamw", None),
    ]
    assert study.baseline == "adamw"
    assert load_study(path, overrides=("arms=[radam, adamw]",)).baseline == "radam"
    assert load_study(path, overrides=(arms, "baseline=torch.optim.NAdam")).baseline == "torch.optim.NAdam"
    with pytest.raises(ConfigError, match=r"arms\.0\.warmup: must be one of .*untuned_linear_warmup.*'linear'"):
        load_study(path, overrides=("arms=[adamw+linear]",))


def test_default_arms_are_the_six_of_the_comparison_and_radam_is_the_baseline(path: Path) -> None:
    study = load_study(path)
    assert [arm.name for arm in study.arms] == [
        "adamw",
        "adamw+untuned_linear_warmup",
        "adamw+untuned_exponential_warmup",
        "adamw+radam_warmup",
        "adamw+linear_warmup",
        "radam",
    ]
    assert study.baseline == "radam"
    assert [arm.num_warmup_steps for arm in study.arms] == [0, 0, 0, 0, 2, 0]


def test_overrides_reach_into_lists_and_new_keys(path: Path) -> None:
    study = load_study(
        path,
        overrides=("training.batch_size=8", "tasks.0.margin=0.02", "model.config.num_hidden_layers=1"),
        num_seeds=3,
    )
    assert study.training.batch_size == 8
    assert study.tasks[0].margin == 0.02
    assert study.model.config == {"hidden_size": 8, "num_hidden_layers": 1}
    assert study.seeds == [0, 1, 2]
    assert load_study(path, overrides=("training.mixed_precision=no",)).training.mixed_precision == "no"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("learning_rates=[5e-4]", "learning_rates.0: .*'5e-4'.*YAML reads it as text, write 5.0e-4"),
        ("learning_rates=[-1.0]", "learning rates must be positive"),
        ("learning_rates=[0.1, 0.1]", "every learning rate must be named once"),
        ("seeds=[-1]", "seeds.0: .*greater than or equal to 0"),
        ("traning.beta2=0.9", "traning: unknown key"),
        ("training.beta2=1.0", "training.beta2: .*less than 1"),
        ("training.beta2=high", "training.beta2: .*got 'high'"),
        ("training.batch_size=true", "training.batch_size: .*integer, got True"),
        ("training.batch_size=2.5", "training.batch_size: .*integer, got 2.5"),
        ("training.epochs=3", "exactly one of `num_training_steps` and `epochs`"),
        ("training.on_short_run=cap", "cap would shorten AdamW's untuned warmups .*Choose a beta2"),
        ("training.decay=inverse", "training.decay: .*'cosine'.*got 'inverse'"),
        ("model.pretrained=bert", "exactly one of `pretrained` and `architecture`"),
        ("tasks.0.kind=text", "tasks.0.columns: .*this key must be given"),
        ("tasks.0.columns=[a]", "tasks.0: `columns` does not apply to a task of kind digits; remove it"),
        ("tasks.0.max_len=3", "tasks.0.max_len: unknown key"),
        ("tasks.0.kind=txt", "tasks.0.kind: must be one of digits, text, .*, got 'txt'"),
        ("tasks.0={name: a}", "tasks.0.kind: this key must be given"),
        ("tasks.0.metric=bleu", "tasks.0.metric: .*'accuracy'.*got 'bleu'"),
        ("tasks.0.splits.test=0", "tasks.0.splits.test: must be a split's name, or a number of .* at least 1, got 0"),
        ("tasks.0.splits.test=1.5", r": tasks\.0\.splits\.test: .* a valid string or a valid integer, got 1\.5"),
        ("tasks.0.splits.test=[1]", r": tasks\.0\.splits\.test: .* a valid string or a valid integer, got \[1\]"),
        ("plan=3", r"plan: Input should be a valid dictionary, got 3"),
        ("tasks.1.kind=text", "no place named 'tasks.1.kind'"),
        ("baseline=sgd", "baseline 'sgd' is not an arm; arms: "),
        ("arms=[{name: a, optimizer: adamw, warmup: linear_warmup}]", "need `num_warmup_steps`"),
        ("arms=[{name: a, optimizer: adamw, num_warmup_steps: 3}]", "others take none"),
        ("arms=[{name: a b, optimizer: adamw}]", "arms.0.name"),
        (
            "arms=[{name: a, optimizer: NAdam}]",
            "adamw, radam or an import path such as torch.optim.NAdam, got 'NAdam'",
        ),
        (
            "arms=[{name: a, optimizer: adamw, warmup: radam_warmup, schedule: cosine}]",
            "`warmup` can not stand beside",
        ),
        ("arms=[{name: a, optimizer: adamw, schedule_kwargs: {power: 2}}]", "`schedule_kwargs` go with `schedule`"),
        ("arms=[{name: a, optimizer: adamw, optimizer_kwargs: {lr: 0.1}}]", "holds 'lr', which the study gives"),
        ("batch_size", "not of the form key=value"),
        ("training.beta2=[", "cannot be read as YAML"),
    ],
)
def test_mistakes_are_named(path: Path, override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_study(path, overrides=(override,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a list", "just text", "", "a: [1, 2", "a: b: c"])
def test_files_that_are_no_study(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_study(path)


def test_missing_file_and_missing_key(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_study(tmp_path / "none.yaml")
    path.write_text(STUDY.replace("name: small", ""))
    with pytest.raises(ConfigError, match="name: .*must be given"):
        load_study(path)
    with pytest.raises(ConfigError, match="--seeds must be at least 1"):
        load_study(path, num_seeds=0)


def test_a_study_written_out_reads_back_the_same(path: Path) -> None:
    study = load_study(path)
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study
    assert study.arms == default_arms(2)
    assert [arm.name for arm in default_arms(None)] == [arm.name for arm in study.arms if not arm.num_warmup_steps]
    # Nor do keys that came later stand in what it writes: folders of older studies go on.
    assert all(set(arm) == {"name", "optimizer", "warmup", "num_warmup_steps"} for arm in study.model_dump()["arms"])


def test_documents_of_the_first_kinds_hold_what_they_always_held(path: Path) -> None:
    text = "{name: t, kind: text, dataset: d, folder: f, columns: [a, b], subset: s, label_column: l, target: 0.5}"
    digits = "{name: digits, kind: digits, splits: {validation: 300, test: 297}}"
    characters = "{name: c, kind: characters, dataset: d.txt, margin: 0.02}"
    study = load_study(path, overrides=(f"tasks=[{digits}, {text}, {characters}]",))
    splits = {"train": "train", "validation": "validation", "test": "test"}
    common = {"splits": splits, "max_length": 128, "train_examples": None, "metric": "accuracy"}
    unused = {"subset": None, "columns": [], "label_column": "label"}
    expected = [
        {"name": "digits", "kind": "digits", "dataset": None, **unused, **common, "margin": 0.01, "target": None},
        {"name": "t", "kind": "text", "dataset": "d", "subset": "s", "columns": ["a", "b"], "label_column": "l"}
        | {**common, "margin": 0.01, "target": 0.5},
        {"name": "c", "kind": "characters", "dataset": "d.txt", **unused, **common, "margin": 0.02, "target": None},
    ]
    expected[0]["splits"] = {**splits, "validation": 300, "test": 297}
    found = study.model_dump(mode="json")["tasks"]
    assert json.dumps(found) == json.dumps(expected), "in their order, too"
    assert StudyConfig.model_validate(study.model_dump(mode="json")).tasks[2] == study.tasks[2]
