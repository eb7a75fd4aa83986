"""Methods of certified training as a recipe states them, and runs by them that are broken off and go on."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_warmup.certified import precise_batch_norm_
from hf_warmup.certified.evaluation import assess
from hf_warmup.certified.objectives import CrownIbp, Ibp, MtlIbp, Sabr, TrainingAttack
from hf_warmup.data.images import load_images
from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedForImageClassification
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.method import make_method
from hf_warmup.studies.certification.plan import plan_certified
from hf_warmup.studies.certification.run import run_certified_cell
from hf_warmup.yaml_config import parse


STUDY = """
name: tiny
reproduces: nothing; it tests the program
data: {name: digits, mode: L, train_examples: 64, test_examples: 32}
model: {architecture: cnn_small, hidden_sizes: [4, 4], dense_size: 8}
eps: "1/20"
training: {epochs: 3, ramp_start: 0, ramp_epochs: 1, batch_size: 16, checkpoint_every: 1}
pgd: {steps: 2}
arms: [{name: ours}]
seeds: [0]
"""


def read(tmp_path: Path, *overrides: str) -> CertifiedStudyConfig:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    return parse(CertifiedStudyConfig, path, overrides=overrides)


def test_arms_go_before_what_all_share(tmp_path: Path) -> None:
    arms = "[{name: a}, {name: b, method: sabr, box_share: 0.4}, {name: c, method: crown_ibp}, {name: d, method: ibp}]"
    shared = ("training.method=mtl_ibp", "training.ibp_weight=0.5", "training.attack_steps=3")
    study = read(tmp_path, f"arms={arms}", *shared, "training.attack_scale=2")
    assert [make_method(study.training, arm) for arm in study.arms] == [
        MtlIbp(0.5, TrainingAttack(steps=3, scale=2.0)),
        Sabr(0.4, attack=TrainingAttack(steps=3)),
        CrownIbp(),
        Ibp(),
    ]
    assert make_method(read(tmp_path).training, read(tmp_path).arms[0]) == Ibp()


def test_a_study_without_methods_is_recorded_as_before_and_one_with_them_comes_back(tmp_path: Path) -> None:
    document = read(tmp_path).model_dump(mode="json")
    assert document["arms"] == [
        {"name": "ours", "ibp_init": True, "tightness": True, "relu_balance": True, "batch_norm": "full"}
    ]
    assert not {"method", "box_share", "attack_steps", "swa_start", "swa_every"} & document["training"].keys()
    study = read(
        tmp_path, "training.method=sabr", "training.box_share=0.4", "arms=[{name: a}, {name: b, method: ibp}]"
    )
    assert CertifiedStudyConfig.model_validate(study.model_dump(mode="json")) == study


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.method=taps",), "training.method: Input should be 'ibp', 'crown_ibp'"),
        (("training.method=sabr",), "trained by sabr, which needs `box_share`"),
        (("arms.0.method=exp_ibp",), "trained by exp_ibp, which needs `ibp_weight`"),
        (("arms.0.box_share=0.4",), "trained by ibp, which takes no `box_share`"),
        (
            ("arms.0.method=sabr", "arms.0.box_share=0.1", "arms.0.attack_scale=2"),
            "sabr, which takes no `attack_scale`",
        ),
        (
            ("training.attack_steps=4",),
            "training.attack_steps is taken by sabr, mtl_ibp, cc_ibp, exp_ibp, by which no",
        ),
        (("training.method=sabr", "training.box_share=2"), "less than or equal to 1"),
        (("training.swa_every=2",), "give that as well"),
        (("training.swa_start=3",), "less than the 3 epochs"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, *overrides)


@pytest.mark.parametrize("method", ["sabr, box_share: 0.3", "exp_ibp, ibp_weight: 0.3", "crown_ibp"])
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path, method: str) -> None:
    # Weights are averaged from before the checkpoint on.
    shared = ("training.swa_start=0", "training.swa_every=1") if "crown" in method else ("training.attack_steps=2",)
    study = read(
        tmp_path, f"arms.0={{name: ours, method: {method}}}", "training.gradient_accumulation_steps=2", *shared
    )
    data = load_images(study.data)
    (cell,) = plan_certified(study, 2)
    unbroken = list(run_certified_cell(study, data, cell, folder=tmp_path / "whole"))
    records = run_certified_cell(study, data, cell, folder=tmp_path / "killed")
    before = [next(records) for _ in range(4)]
    records.close()
    after = list(run_certified_cell(study, data, cell, folder=tmp_path / "killed"))
    assert after[0]["step"] == 3
    assert [*before[:3], *after] == unbroken


def test_averaged_weights_are_judged_and_saved_with_statistics_of_their_own(tmp_path: Path) -> None:
    study = read(tmp_path, "training.swa_start=1", "training.swa_every=3")
    data = load_images(study.data)
    (cell,) = plan_certified(study, 4)
    weights = []

    def watch(optimizer: Any, *_: Any) -> None:
        weights.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.Adam.__init__", _hooked(torch.optim.Adam.__init__, watch))
        *_, last, result = run_certified_cell(study, data, cell, folder=tmp_path)
    model = CertifiedForImageClassification.from_pretrained(tmp_path / "models" / cell.name)
    for parameter, *taken in zip(model.parameters(), weights[6], weights[9], strict=True):
        torch.testing.assert_close(parameter.detach(), (taken[0] + taken[1]) / 2)
    assert [last["clean_accuracy"], last["verified_accuracy"]] == [
        result["clean_accuracy"],
        result["verified_accuracy"],
    ]
    again = copy.deepcopy(model)
    precise_batch_norm_(again, [data.train.__getitems__(range(64))["pixel_values"]])
    for found, expected in zip(model.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(found, expected)
    assert assess(model, data.test, study.eps).counts()["num_verified"] == result["num_verified"]


def _hooked(init: Any, hook: Any) -> Any:
    def hooked(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.register_step_post_hook(hook)

    return hooked
