"""A person's own Trainer, compared: what the arm sets, what is recorded, and what is said of wrong factories."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments, ViTConfig, ViTForImageClassification

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json, read_lines
from hf_warmup.report import comparison
from hf_warmup.schedules import untuned_linear_warmup
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.own import equipment
from hf_warmup.studies.comparison.own.equipment import ArmCallback
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.folder import run_path
from hf_warmup.studies.runner import Study, run_study


FACTORIES = Path(__file__).parents[1] / "helpers" / "own_study.py"
ARGUMENTS = {"per_device_train_batch_size": 8, "max_steps": 12, "adam_beta2": 0.75}
WARM = {"name": "warm", "optimizer": "adamw", "warmup": "untuned_linear_warmup"}
RADAM = {"name": "radam", "optimizer": "radam"}


def study_of(factory: str = "make_trainer", **changes: Any) -> StudyConfig:
    task = {"name": "own", "kind": "trainer", "factory": f"{FACTORIES}:{factory}", "metric": "accuracy", "margin": 0.1}
    arguments = {**ARGUMENTS, **changes.pop("arguments", {})}
    task |= {"arguments": arguments, **{key: changes.pop(key) for key in ("metric",) if key in changes}}
    document = {"name": "mine", "tasks": [task], "learning_rates": [0.01], "seeds": [0], "arms": [WARM, RADAM]}
    return StudyConfig.model_validate({**document, **changes})


def records(study: Study[Any], folder: Path, arm: str) -> list[Record]:
    [name] = [cell.name for cell in study.cells if cell.arm.name == arm]
    return list(read_lines(run_path(folder, name)))


def test_the_arm_sets_optimizer_and_schedule_and_each_update_is_recorded(tmp_path: Path) -> None:
    made = []

    class Spy(ArmCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
            super().on_train_begin(args, state, control, **found)
            made.append(found["optimizer"].optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equipment, "ArmCallback", Spy)
        study = comparison_study(study_of(arguments={"eval_steps": 6, "weight_decay": 0.1}))
        results = run_study(study, tmp_path)
    assert [type(optimizer) for optimizer in made] == [torch.optim.AdamW, torch.optim.RAdam]
    for optimizer in made:
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
        assert optimizer.param_groups[0]["betas"] == (0.9, 0.75)
        assert optimizer.param_groups[0]["foreach"]
    assert made[1].param_groups[0]["decoupled_weight_decay"]
    *steps, result = records(study, tmp_path, "warm")
    rates = [record["multiplier"] for record in steps if record["kind"] == "step"]
    assert rates == pytest.approx([untuned_linear_warmup(s, beta2=0.75) * (1 - s / 12) for s in range(12)])
    assert steps[0]["update_ratio_median"] == pytest.approx(1.0, abs=0.01), "Adam's first update"
    assert [record["step"] for record in steps if record["kind"] == "evaluation"] == [6, 12]
    assert {"validation", "test"} <= result.keys()
    first = records(study, tmp_path, "radam")[0]
    assert first["multiplier"] == 1.0
    assert first["loss"] == steps[0]["loss"], "all arms begin from the same weights and batch"
    assert results is not None
    [task] = results["tasks"]
    assert task["sizes"] == {"train": 64, "validation": 40, "test": 60}
    assert task["num_training_steps"] == 12
    assert task["arms"][0]["num_warmup_steps"] == 8.0


class Killed(TrainerCallback):  # type: ignore[misc]
    """Ends a process at an update, once."""

    def __init__(self, update: int = 8) -> None:
        self.left, self._update = 1, update

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._update and self.left:
            self.left = 0
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_from_the_trainers_checkpoint_and_ends_the_same(tmp_path: Path) -> None:
    study = comparison_study(study_of(arguments={"save_steps": 5, "num_train_epochs": 1}, arms=[RADAM]))
    run_study(study, tmp_path / "whole")
    killed, seen = Killed(), []

    class Spy(ArmCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
            seen.append(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
            killed.on_step_end(args, state, control)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equipment, "ArmCallback", Spy)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "killed")
        # What a kill in the middle of writing leaves is no checkpoint.
        [checkpoint] = (tmp_path / "killed" / "checkpoints").glob("*/checkpoint-5")
        (checkpoint.parent / "checkpoint-10").mkdir()
        run_study(study, tmp_path / "killed")
    assert seen == [0, 5]
    assert records(study, tmp_path / "killed", "radam") == records(study, tmp_path / "whole", "radam")
    assert not checkpoint.exists()


def test_checkpoints_wait_for_the_end_of_an_epoch_where_loading_draws_at_random(tmp_path: Path) -> None:
    # An epoch has 8 updates: the checkpoint of the fifth waits for the eighth.
    arguments = {"save_steps": 5, "max_steps": 20}
    study = comparison_study(study_of("drawing", arguments=arguments, arms=[RADAM]))
    run_study(study, tmp_path / "whole")
    killed, found = Killed(14), []

    class Spy(ArmCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_train_begin(args, state, control, **kwargs)
            found.append(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)
            killed.on_step_end(args, state, control)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equipment, "ArmCallback", Spy)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "killed")
        run_study(study, tmp_path / "killed")
    assert found == [0, 8]
    assert records(study, tmp_path / "killed", "radam") == records(study, tmp_path / "whole", "radam")


def test_weights_that_stand_under_older_names_are_taken_over(tmp_path: Path) -> None:
    """ViT is stored under other names than it has, and the Trainer goes on with the weights that it finds in place."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    stored, model = (ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **sizes)) for _ in range(2))
    stored.save_pretrained(tmp_path / "checkpoint-3")
    callback, arguments = ArmCallback(torch.optim.AdamW), TrainingArguments(str(tmp_path), report_to="none")
    callback.on_train_begin(arguments, TrainerState(global_step=3), None, model=model)
    for name, weight in stored.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_a_run_that_fails_has_no_score_and_is_tried_again(tmp_path: Path) -> None:
    study = comparison_study(study_of("breaks_in_one_arm"))
    told: list[Record] = []
    results = run_study(study, tmp_path, on_record=lambda _, record: told.append(record))
    [failed] = [record for record in told if record["kind"] == "failed"]
    assert failed["lines"][-1] == "RuntimeError: device lost"
    assert results is not None
    warm, radam = results["tasks"][0]["arms"]
    assert warm["runs"][0]["failed"] == "RuntimeError: device lost"
    assert warm["runs"][0]["test"] is None
    assert radam["runs"][0]["test"] is not None
    again: list[str] = []
    run_study(study, tmp_path, on_record=lambda _, record: again.append(record["kind"]))
    assert again == ["failed"]


def test_divergence_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equipment, "LOST_UPDATES", 3)
    study = comparison_study(study_of("diverges", metric="loss"))
    results = run_study(study, tmp_path)
    assert results is not None
    for arm in results["tasks"][0]["arms"]:
        [run] = arm["runs"]
        assert run["diverged"]
        assert run["test"] is None
        assert run["curve"]["step"][-1] == 7, "three lost updates end the run"


@pytest.mark.parametrize(
    ("factory", "changes", "said"),
    [
        ("no_such", {}, "has no function no_such; it has Data, accuracy"),
        ("nothing", {}, "must return a transformers Trainer, .* returned NoneType"),
        ("fails", {}, r"RuntimeError: out of luck, .*own_study.py, line \d+"),
        ("own_optimizer", {}, "brings its own optimizer"),
        ("exits", {}, r"SystemExit: 3, .*own_study.py, line \d+"),
        ("changes_arguments", {}, "learning_rate=1.0, and the arm asks for 0.01"),
        ("empty_test", {}, "the test data set of .* is empty"),
        ("own_rate", {}, "learning_rate=5e-05, and the arm asks for 0.01"),
        ("without_validation", {}, "has no eval_dataset"),
        ("without_test", {"learning_rates": [0.01, 0.02]}, "tuning_seeds"),
        ("make_trainer", {"arguments": {"adam_beta2": 0.99}}, "takes 200 updates, but the run has 12"),
        ("make_trainer", {"arguments": {"per_device_train_batch_size": 0}}, "batch_size should be a positive integer"),
        ("make_trainer", {"arguments": {"max_steps": -1, "num_train_epochs": 0}}, "num_train_epochs makes no update"),
        ("make_trainer", {"arguments": {"fp16": True}}, "fp16 needs a GPU"),
        ("make_trainer", {"arguments": {"max_step": 3}}, "TrainingArguments has no field named max_step; .*max_steps"),
        ("make_trainer", {"arguments": {"eval_strategy": "never"}}, "TrainingArguments refuses them .*never"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_runs(factory: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        comparison_study(study_of(factory, **changes))
    assert "\n" not in str(refused.value)


def test_a_schedule_of_the_trainers_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="arm asks for untuned_linear_warmup, but .* has made ConstantLR; remove"):
        run_study(comparison_study(study_of("own_schedule")), tmp_path)


def test_a_metric_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    study = comparison_study(
        study_of(metric={"name": "acuracy", "lower_is_better": False}, arguments={"max_steps": 8})
    )
    with pytest.raises(ConfigError, match="has no metric 'acuracy'; it has accuracy, loss"):
        run_study(study, tmp_path)


@pytest.mark.parametrize("key", ["learning_rate", "seed", "lr_scheduler_type", "output_dir"])
def test_what_belongs_to_the_study_is_no_argument(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: set by the study"):
        study_of(arguments={key: 1})


def test_a_factory_names_its_class_of_arguments() -> None:
    from transformers import Seq2SeqTrainingArguments

    from hf_warmup.studies.comparison.own.factory import make_arguments

    def factory(arguments: Seq2SeqTrainingArguments) -> None: ...

    found = make_arguments(factory, {"output_dir": "x", "predict_with_generate": True})
    assert type(found) is Seq2SeqTrainingArguments
    assert type(make_arguments(lambda arguments: None, {"output_dir": "x"})) is TrainingArguments


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    """Each test imports the factories anew."""
    import sys

    yield
    sys.modules.pop("own_study", None)


@pytest.mark.usefixtures("no_drawing")
def test_results_say_how_the_runs_were_made(tmp_path: Path) -> None:
    results = run_study(comparison_study(study_of(arguments={"max_steps": 8})), tmp_path)
    assert results is not None
    comparison.write_report(results, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert f"runs of own: trainer {FACTORIES}:make_trainer; per_device_train_batch_size 8, max_steps 8" in report
    assert "64 train, 40 validation, 60 test examples" in report
    assert read_json(tmp_path / "study.json").keys() >= {"tasks", "arms"}
    assert "model" not in read_json(tmp_path / "study.json")
