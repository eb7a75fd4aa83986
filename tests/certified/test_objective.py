"""The objective's phases, and the tools around it: bound health and precise batch normalization."""

import copy
import logging
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_warmup.bounds import input_interval, margins, propagate
from hf_warmup.certified import (
    CertifiedObjective,
    bound_health,
    ibp_init_,
    precise_batch_norm_,
    relu_balance_loss,
    robust_cross_entropy,
    tightness_loss,
    warn_of_explosion,
)
from hf_warmup.certified.objectives import network_input
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.schedules import smoothed_ramp


def make(**options: Any) -> CertifiedForImageClassification:
    torch.manual_seed(0)
    return CertifiedForImageClassification(
        CertifiedConfig(
            **{"architecture": "cnn_small", "image_size": 8, "num_channels": 1, "image_std": [0.5], **options}
        )
    )


BATCH = {
    "pixel_values": torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
    "labels": torch.arange(16) % 10,
}
RAMP = partial(smoothed_ramp, start=10, length=100)


def test_three_phases() -> None:
    objective = CertifiedObjective(eps_max=0.1, ramp=RAMP)
    model = make()
    images, labels = BATCH["pixel_values"], BATCH["labels"]

    # Radius 0: natural loss, and regularizers of bounds at 1e-6.
    loss, metrics = objective(copy.deepcopy(model), BATCH, 0)
    tape: list[Any] = []
    box = input_interval(images, 1e-6, tape=tape)
    inner = copy.deepcopy(model)
    natural = F.cross_entropy(propagate(inner, box).clean, labels)
    normalized = network_input(inner, box)
    torch.testing.assert_close(normalized.radius, box.radius / 0.5)
    regularizers = tightness_loss(tape, normalized) + relu_balance_loss(tape)
    torch.testing.assert_close(loss, natural + 0.5 * regularizers)
    assert (metrics["eps"], metrics["reg_weight"]) == (0.0, 0.5)
    assert "robust_loss" not in metrics

    # On the ramp, at a quarter: eps_max / 13.
    loss, metrics = objective(copy.deepcopy(model), BATCH, 35)
    assert metrics["eps"] == pytest.approx(0.1 / 13)
    assert metrics["reg_weight"] == pytest.approx(0.5 * 12 / 13)
    tape = []
    box = input_interval(images, metrics["eps"], tape=tape)
    inner = copy.deepcopy(model)
    robust = robust_cross_entropy(margins(propagate(inner, box), labels))
    regularizers = tightness_loss(tape, network_input(inner, box)) + relu_balance_loss(tape)
    torch.testing.assert_close(loss, robust + metrics["reg_weight"] * regularizers)

    # Behind it: the robust loss alone.
    loss, metrics = objective(copy.deepcopy(model), BATCH, 110)
    robust = robust_cross_entropy(margins(propagate(copy.deepcopy(model), input_interval(images, 0.1)), labels))
    torch.testing.assert_close(loss, robust)
    assert "tightness_loss" not in metrics


def test_vanilla_is_plain_training_until_the_ramp() -> None:
    objective = CertifiedObjective(eps_max=0.1, ramp=RAMP, reg_weight=0.0)
    loss, metrics = objective(make(), BATCH, 10)
    torch.testing.assert_close(loss, F.cross_entropy(make()(BATCH["pixel_values"]).logits, BATCH["labels"]))
    assert metrics["eps"] == 0.0


def test_ablations_mix_and_l1() -> None:
    def value(step: int, **options: Any) -> tuple[float, dict[str, Any]]:
        loss, metrics = CertifiedObjective(eps_max=0.1, ramp=RAMP, **options)(make(), BATCH, step)
        return float(loss.detach()), metrics

    whole, metrics = value(0)
    no_balance, _ = value(0, relu_balance=False)
    no_tightness, _ = value(0, tightness=False)
    neither, _ = value(0, reg_weight=0.0)
    assert whole - no_balance == pytest.approx(0.5 * float(metrics["relu_balance_loss"]), abs=1e-5)
    assert whole - no_tightness == pytest.approx(0.5 * float(metrics["tightness_loss"]), abs=1e-5)
    assert value(0, tightness=False, relu_balance=False)[0] == neither
    robust, natural = value(200)[0], value(200, robust_weight=lambda step: 0.0)[0]
    assert value(200, robust_weight=lambda step: 0.25)[0] == pytest.approx(0.25 * robust + 0.75 * natural, rel=1e-5)
    weights = sum(float(p.detach().abs().sum()) for p in make().parameters() if p.dim() > 1)
    assert value(200, l1_weight=1e-3)[0] == pytest.approx(robust + 1e-3 * weights, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"eps_max": 0.0}, {"eps_max": 8.0}, {"eps_max": 0.1, "reg_weight": -1.0}, {"eps_max": 0.1, "l1_weight": -1.0}],
)
def test_what_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        CertifiedObjective(ramp=RAMP, **options)


def test_running_statistics_move_once_per_batch() -> None:
    model = make()
    CertifiedObjective(eps_max=0.1, ramp=RAMP)(model, BATCH, 50)
    counts = [int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts == [1, 1, 1]


def test_bound_health_at_initialization() -> None:
    torch.manual_seed(0)
    config = CertifiedConfig(image_size=16, batch_norm="none")  # CNN-7, specification 3.6
    images = F.interpolate(torch.rand(8, 3, 4, 4), size=16, mode="bilinear").clamp(0.01, 0.99)
    model = CertifiedForImageClassification(config).eval()
    default = bound_health(model, images, 1e-3)
    ibp_init_(model, images)
    layers = bound_health(model, images, 1e-3)
    total = 1.0
    for layer in layers:
        total *= layer.gain
        # The first layer's gain is 2, as no ReLU precedes it, less what zero padding takes off at the border of
        # images as small as these; from there on about 1.
        assert 1.2 < total < 2.5
        assert layer.active + layer.inactive + layer.unstable == pytest.approx(1)
    assert default[-1].width / default[0].width > 1e3
    assert [layer.gain for layer in default][0] == pytest.approx(27**0.5 / 4 * 2, rel=0.1)


def test_explosion_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    model = CertifiedForImageClassification(CertifiedConfig(image_size=16, batch_norm="full")).eval()
    with caplog.at_level(logging.WARNING):
        assert not warn_of_explosion(bound_health(make().eval(), BATCH["pixel_values"], 1e-3))
        assert caplog.text == ""
        images = torch.rand(8, 3, 16, 16)
        assert warn_of_explosion(bound_health(model.train(), images, 0.1))
    assert "bounds explode: at ReLU" in caplog.text


def test_precise_statistics_are_plain_averages() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    batches = [torch.rand(4, 1, 8, 8) for _ in range(5)]
    precise_batch_norm_(model, batches)
    means = torch.stack([model[0](b).mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([model[0](b).var((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)
    assert model[1].momentum == 0.1
    assert not model.training
    precise_batch_norm_(nn.Linear(1, 1), [])
