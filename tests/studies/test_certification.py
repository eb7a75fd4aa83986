"""Certified studies: two methods trained on real digits, stored, saved and certified again after loading."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_warmup.certified import Verifier
from hf_warmup.certified.evaluation import assess
from hf_warmup.data.images import load_images
from hf_warmup.errors import ConfigError
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.model import make_model
from hf_warmup.studies.certification.run import make_objective
from hf_warmup.studies.certification.study import certified_study
from hf_warmup.studies.certification.watching import Evaluation
from hf_warmup.studies.runner import run_study
from hf_warmup.yaml_config import parse


STUDY = """
name: tiny
reproduces: nothing; it tests the program
data: {name: digits, mode: L, train_examples: 256, test_examples: 64}
model: {architecture: cnn_small, hidden_sizes: [8, 8], dense_size: 16}
eps: "1/20"
training: {epochs: 3, ramp_start: 1, ramp_epochs: 1, batch_size: 32, learning_rate: 5.0e-3, milestones: [2],
           precise_batch_norm: true, flip: true, crop_padding: 1, checkpoint_every: 1}
pgd: {steps: 5, examples: 32, every_epoch: true}
arms:
  - {name: vanilla_ibp, ibp_init: false, tightness: false, relu_balance: false}
  - {name: short_warmup}
seeds: [0]
"""


def test_study_from_data_to_a_model_that_proves_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    study = parse(CertifiedStudyConfig, path)
    data = load_images(study.data)
    results = run_study(certified_study(study, data), tmp_path / "out")
    assert run_study(certified_study(study, data), tmp_path / "out") == results
    for arm in results["arms"]:
        (run,) = arm["runs"]
        assert run["verified_accuracy"] <= run["clean_accuracy"]
        assert 0 <= run["verified_interval"][0] <= run["verified_accuracy"] <= run["verified_interval"][1] <= 1
        assert [len(record["health"]) for record in run["evaluations"]] == [3, 3, 3]
        assert run["evaluations"][-1]["pgd_accuracy"] == run["pgd_accuracy"]
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "models" / f"{arm['name']}--0")
        again = assess(model, data.test, study.eps, attack=study.pgd)
        found = {**again.accuracies(), **again.counts()}
        assert {key: run[key] for key in found} == found
    assert not list((tmp_path / "out").rglob("step_*"))


def test_a_validation_split_is_watched_and_the_test_split_met_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    overrides = ("data.validation=40", "training.epochs=2", "arms=[{name: short_warmup}]")
    study = parse(CertifiedStudyConfig, path, overrides=overrides)
    judged = []

    def watch(model: Any, images: Any, eps: str, **options: Any) -> Any:
        judged.append(len(images))
        return assess(model, images, eps, **options)

    monkeypatch.setattr("hf_warmup.studies.certification.watching.assess", watch)
    results = run_study(certified_study(study, load_images(study.data)), tmp_path / "out")
    assert judged == [40, 40, 64]
    assert results is not None
    assert results["sizes"] == {"train": 256, "validation": 40, "test": 64}


def test_what_the_last_look_has_found_is_not_looked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    study = parse(CertifiedStudyConfig, path, overrides=("pgd.every_epoch=false",))
    data = load_images(study.data)
    objective = make_objective(
        study.training, study.arms[1], eps="1/20", reg_weight=0.5, epoch_length=8, device=torch.device("cpu")
    )
    model = make_model(study.model, data, study.arms[1])
    weight, bias = list(model.parameters())[-2:]
    torch.nn.init.zeros_(weight)
    # It always answers 1, so all images of a one are proven.
    torch.nn.init.zeros_(bias).data[1] = 1.0
    evaluate = Evaluation(study, data, model, objective, None)
    evaluate(model, 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verifier, "certify", None)
        result = evaluate.result(seen=True)
    whole = assess(model.eval(), data.test, study.eps, attack=study.pgd)
    assert (result.accuracies(), result.counts()) == (whole.accuracies(), whole.counts())
    assert 0 < result.counts()["num_verified"] == int((data.test.labels == 1).sum())
    # Weights that have moved since, as those of a run that ended before it was looked at, are judged anew.
    torch.nn.init.zeros_(bias)
    assert evaluate.result(seen=False).counts()["num_verified"] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eps=eight", "eps must be a number"),
        ("training.ramp_epochs=9", "never be trained at the full radius"),
        ("model.architecture=vgg", "one of cnn7"),
        ("training.batch_size=1000", "takes 1000 examples"),
        ("data.name=/no/such/folder", "cannot be loaded"),
    ],
)
def test_mistakes(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)

    def run() -> None:
        study = parse(CertifiedStudyConfig, path, overrides=(override,))
        run_study(certified_study(study, load_images(study.data)), tmp_path / "out")

    with pytest.raises(ConfigError, match=message):
        run()


def test_training_in_bfloat16_is_certified_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    study = parse(CertifiedStudyConfig, path, overrides=("training.precision=bf16", "arms=[{name: short_warmup}]"))
    data = load_images(study.data)
    results = run_study(certified_study(study, data), tmp_path / "out")
    assert results["config"]["training"]["precision"] == "bf16"
    [run] = results["arms"][0]["runs"]
    assert not run["diverged"]
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "models" / "short_warmup--0")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert assess(model, data.test, study.eps).counts()["num_verified"] == run["num_verified"]


def test_tf32_without_a_gpu_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    overrides = ("training.precision=tf32", "training.epochs=2", "arms=[{name: short_warmup}]")
    study = parse(CertifiedStudyConfig, path, overrides=overrides)
    run_study(certified_study(study, load_images(study.data)), tmp_path / "out")
    assert "no TF32 on this device" in caplog.text


def test_exact_interval() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0, 0.30849710781876083))
    assert clopper_pearson(5, 10) == pytest.approx((0.1870860284474045, 0.8129139715525955))
