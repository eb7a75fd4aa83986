"""Certified models as transformers models: sizes, round trips in which bounds survive, the pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor


MNIST: dict[str, Any] = {"image_size": 28, "num_channels": 1}
TINY: dict[str, Any] = {"image_size": 64, "num_labels": 200}
SMALL: dict[str, Any] = {
    "architecture": "cnn_small",
    "image_size": 8,
    "num_channels": 1,
    "image_mean": [0.3],
    "image_std": [0.2],
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 17_192_650),
        (MNIST, 13_259_338),
        ({**TINY, "conv5_stride": 2}, 17_290_120),
        ({"batch_norm": "conv"}, 17_191_626),
        ({"batch_norm": "none"}, 17_190_602),
        ({**MNIST, "batch_norm": "none"}, 13_257_290),
        ({"architecture": "wide_resnet8"}, 21_547_882),
        ({"architecture": "wide_resnet8", **MNIST}, 17_615_434),
        ({"architecture": "wide_resnet8", "widen_factor": 10, **TINY}, 91_424_776),
        ({"architecture": "resnext"}, 17_611_018),
        ({"architecture": "resnext", **MNIST}, 13_677_706),
        (
            {"architecture": "resnext", "stem_channels": 16, "bottleneck_width": 8, "blocks_per_stage": 2, **TINY},
            16_981_960,
        ),
    ],
)
def test_parameter_counts_are_the_published_ones(options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        model = CertifiedForImageClassification(CertifiedConfig(**options))
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("options", "relus"),
    [
        ({}, 6),
        ({"architecture": "wide_resnet8"}, 8),
        ({"architecture": "resnext"}, 11),
        ({"architecture": "resnext", "blocks_per_stage": 2, "stem_channels": 16, "bottleneck_width": 8}, 20),
        ({"architecture": "mlp"}, 2),
    ],
)
def test_regularized_layers(options: dict[str, Any], relus: int) -> None:
    config = CertifiedConfig(**{"image_size": 8, "num_channels": 1, **options})
    model = CertifiedForImageClassification(config).eval()
    tape: list[Any] = []
    with torch.no_grad():
        propagate(model, input_interval(torch.rand(1, 1, 8, 8), 0.1, tape=tape))
    assert len(tape) == relus


@pytest.mark.parametrize("architecture", ["cnn_small", "mlp", "wide_resnet8", "resnext"])
def test_bounds_survive_saving_and_loading(tmp_path: Path, architecture: str) -> None:
    options = {**SMALL, "architecture": architecture, "widen_factor": 1, "stem_channels": 8, "bottleneck_width": 4}
    model = CertifiedForImageClassification(CertifiedConfig(**options))
    images = torch.rand(4, 1, 8, 8)
    model.train()
    model(images)  # moves the running statistics away from their defaults
    model.eval()
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        before, after = (propagate(m, input_interval(images, 0.05)) for m in (model, loaded))
        assert torch.equal(before.clean, model(images).logits)
    for name in ("clean", "center", "radius"):
        assert torch.equal(getattr(before, name), getattr(after, name))


def test_config_round_trip(tmp_path: Path) -> None:
    config = CertifiedConfig(**SMALL, num_labels=3)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is CertifiedConfig
    assert loaded.to_diff_dict() == CertifiedConfig.from_pretrained(tmp_path).to_diff_dict()
    for name in ("architecture", "image_mean", "image_std", "strides", "hidden_sizes", "dense_size", "batch_norm"):
        assert getattr(loaded, name) == getattr(config, name)
    assert loaded.num_labels == 3


def test_pipeline_takes_a_picture(tmp_path: Path) -> None:
    model = CertifiedForImageClassification(CertifiedConfig(**SMALL)).eval()
    model.save_pretrained(tmp_path)
    CertifiedImageProcessor(image_size=8, num_channels=1).save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    (best, *_) = pipeline("image-classification", model=str(tmp_path))(Image.fromarray(pixels))
    with torch.no_grad():
        probabilities = model(torch.from_numpy(pixels)[None, None] / 255).logits.softmax(1)
    assert best["score"] == pytest.approx(float(probabilities.max()), rel=1e-5)


def test_image_processor(tmp_path: Path) -> None:
    CertifiedImageProcessor(image_size=4, num_channels=3).save_pretrained(tmp_path)
    CertifiedConfig(image_size=4).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    red = np.zeros((9, 7, 3), dtype=np.uint8)
    red[..., 0] = 255
    values = processor([red, Image.fromarray(red[..., 1])], return_tensors="pt")["pixel_values"]
    assert values.shape == (2, 3, 4, 4)
    assert values[0, 0].eq(1).all()
    assert values[0, 1:].eq(0).all()
    assert values[1].eq(0).all()
    with pytest.raises(TypeError, match="uint8"):
        processor(np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "vgg"}, "one of cnn7"),
        ({"batch_norm": "some"}, "full, conv, none"),
        ({"image_mean": [0.5]}, "3 values"),
        ({"image_std": [0.1, 0.0, 0.1]}, "positive"),
        ({"architecture": "cnn_small", "strides": [2]}, "2 convolutions and 1 strides"),
        (
            {"architecture": "mlp", "hidden_sizes": [0]},
            "hidden_sizes must be a list of whole numbers, each at least 1",
        ),
        ({"architecture": "mlp", "hidden_sizes": []}, "hidden_sizes must be a list"),
        ({"architecture": "mlp", "hidden_sizes": 5}, r"hidden_sizes must be a list .*, got 5\."),
        ({"architecture": "cnn_small", "strides": [1, 2.0]}, "strides must be a list of whole numbers"),
        ({"dense_size": 0}, "dense_size must be a whole number, at least 1, got 0"),
        ({"num_channels": "3"}, "num_channels must be a whole number, at least 1, got '3'"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CertifiedConfig(**options)


def test_wrong_channels() -> None:
    model = CertifiedForImageClassification(CertifiedConfig(**SMALL))
    with pytest.raises(ValueError, match=r"takes images of shape \(1, 8, 8\)"):
        model(torch.rand(1, 3, 8, 8))
    loss, logits = model(torch.rand(2, 1, 8, 8), labels=torch.tensor([0, 1]), return_dict=False)
    assert loss.shape == ()
    assert logits.shape == (2, 10)


def test_fresh_wide_resnets_start_as_published() -> None:
    torch.manual_seed(0)
    model = CertifiedForImageClassification(CertifiedConfig(architecture="wide_resnet8", image_size=8, widen_factor=2))
    weight = model.network[3].branch[3].weight
    assert float(weight.detach().std()) == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.05)
