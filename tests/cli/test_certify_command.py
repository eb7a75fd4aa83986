"""`hf-warmup certify`: models of ours and of transformers, what is written, and one clear error for each mistake."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from pictures import colors_of
from PIL import Image
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import hf_warmup
from hf_warmup import certify
from hf_warmup.certified import CertifiedObjective, ibp_init_
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.evaluation import assess
from hf_warmup.cli import application as cli
from hf_warmup.cli.certify import remarks
from hf_warmup.cli.verify_certificate import verify_certificate_and_report
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import ImageData, load_images, same
from hf_warmup.data.splits import drawn
from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.models.pixel_classifier import PixelClassifier, load_classifier
from hf_warmup.schedules import smoothed_ramp


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hf-warmup", "certify", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_images(DataConfig(name="digits", mode="L"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory, digits: ImageData) -> Path:
    """transformers' ResNet behind its image processor's normalization, trained certified on the digits at eps .03."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))
    pixel_model = PixelClassifier(model, [0.3], [0.4])
    ibp_init_(pixel_model, torch.zeros(1, 1, 8, 8))
    objective = CertifiedObjective(eps_max=0.03, ramp=partial(smoothed_ramp, start=12, length=46))
    optimizer = torch.optim.Adam(pixel_model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    loader = hf_warmup.shuffled_loader(digits.train, batch_size=64, seed=0, collate=same)
    scheduler = hf_warmup.get_schedule(optimizer, num_training_steps=92, warmup="untuned_linear_warmup")
    config = hf_warmup.TrainConfig(num_training_steps=92, max_grad_norm=10.0)
    accelerator = hf_warmup.make_accelerator()
    *_, last = hf_warmup.train(accelerator, pixel_model, optimizer, scheduler, loader, objective, config)
    assert last.metrics["eps"] == pytest.approx(0.03)  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("resnet")
    model.save_pretrained(folder)
    settings = {"image_processor_type": "ConvNextImageProcessor", "do_resize": False, "do_normalize": True}
    settings |= {"image_mean": [0.3], "image_std": [0.4], "do_rescale": True, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def check_verdicts(folder: Path, by_intervals: Any, digits: ImageData) -> None:
    """What the cascade stores fits together, and tells more than intervals prove."""
    verdicts = json.loads((folder / "verdicts.json").read_text())
    by = verdicts["images"]["verified_by"]
    assert [name == "ibp" for name in by] == by_intervals.astype(bool).tolist()
    assert verdicts["num_verified"] == len(by) - by.count(None) > by_intervals.sum()
    assert {stage["name"]: stage["num_verified"] for stage in verdicts["stages"]} == {
        name: by.count(name) for name in ("ibp", "pgd", "crown-ibp", "crown", "alpha-crown")
    }
    assert sum(verdicts[key] for key in ("num_verified", "num_falsified", "num_unknown")) == 297
    stored = np.load(folder / "counterexamples.npz", allow_pickle=False)
    assert stored["index"].tolist() == [i for i, hit in enumerate(verdicts["images"]["falsified"]) if hit]
    images = digits.test.__getitems__(stored["index"].tolist())["pixel_values"]
    assert (abs(stored["pixel_values"] - images.double().numpy()) <= 0.03).all()


def test_transformers_resnet_is_trained_and_certified(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    resnet: Path,
    digits: ImageData,
    tmp_path: Path,
) -> None:
    assert call(monkeypatch, str(resnet), "digits", "--eps", "3/100", "--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    document = json.loads((tmp_path / "certificate.json").read_text())
    each, attack = document["images"], json.loads((tmp_path / "attack.json").read_text())
    # Of the stages the first are intervals.
    verified = np.array([int(stage == "ibp") for stage in each["verified_by"]])
    radius, broken = np.array(each["radius"]), np.array(attack["broken"])
    assert document["num_verified_by"]["ibp"] == verified.sum() > 30
    assert document["num_verified"] == sum(each["verified"]) >= verified.sum()
    assert f"verified accuracy  {100 * document['verified_accuracy']:6.2f} %" in printed
    assert f"by intervals alone {100 * verified.mean():6.2f} %" in printed
    assert "252 of its 297 images are among the first 1,500 of sklearn's load_digits()" in printed
    low, high = document["verified_interval"]
    assert low < document["verified_accuracy"] < high
    check_verdicts(tmp_path, verified, digits)
    assert not (verified & broken).any()
    assert [margin is not None and margin > 0 for margin in each["margin"]] == verified.tolist()
    assert attack["attack"] == {"steps": 40, "restarts": 1, "examples": None}
    assert attack["pgd_accuracy"] == (1 - broken).mean()
    assert (radius[verified == 1] >= 0.03).all()
    assert (radius[np.array(each["verified"]) == 0] < 0.03).all()
    assert {"#0072B2", "#000000", "#D55E00"} <= colors_of(tmp_path / "radius.png"), "certified, clean and PGD"
    assert (document["eps"], len(document["weights_sha256"])) == ("3/100", 64)
    # The stored margins are those of the library's function, on the same model.
    model = load_classifier(str(resnet), image_size=8, num_channels=1)
    some = digits.test.__getitems__(range(5))
    margin = certify(model, some["pixel_values"], some["labels"], eps="3/100", method="ibp").margin
    assert each["margin"][:5] == [pytest.approx(found) if found > 0 else None for found in margin.tolist()]
    result = assess(model, digits.test, "3/100", attack=PgdConfig(steps=20, restarts=2))
    assert result.counts()["num_verified"] == document["num_verified_by"]["ibp"]


def test_models_that_were_trained_on_our_split_need_no_word_about_it(made: tuple[Path, Path], tmp_path: Path) -> None:
    study, checkpoint = made
    trained = next((study / "models").iterdir())
    for folder in (trained, checkpoint):
        assert remarks(str(folder), "digits", None) == []
    assert len(remarks("somebody/model", "digits", None)) == len(remarks(str(tmp_path), "digits", None)) == 1
    assert remarks("somebody/model", "ylecun/mnist", None) == []


def test_some_examples_are_drawn_and_not_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: ImageData, tmp_path: Path
) -> None:
    options = ["--eps", "1/255", "--examples", "20", "--pgd-steps", "1", "--out", str(tmp_path / "out")]
    assert call(monkeypatch, str(small(tmp_path / "model")), "digits", *options) == 0
    assert "drawn from the split by a fixed seed" in capsys.readouterr().out
    labels = json.loads((tmp_path / "out" / "certificate.json").read_text())["images"]["label"]
    assert labels == digits.test.labels[drawn(297, 20)].tolist() != digits.test.labels[:20].tolist()


@pytest.mark.parametrize("method", ["ibp", "cascade"])
def test_radii_may_be_looked_for_of_some_images(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, out = small(tmp_path / "model"), tmp_path / "out"
    options = ["--eps", "1/255", "--radius-examples", "12", "--pgd-steps", "1", "--method", method, "--out", str(out)]
    assert call(monkeypatch, str(model), "digits", *options) == 0
    assert "(by intervals, of 12 images drawn by a fixed seed; the search" in capsys.readouterr().out
    radii = json.loads((out / "certificate.json").read_text())["images"]["radius"]
    assert [place for place, radius in enumerate(radii) if radius is not None] == drawn(297, 12).tolist()
    assert (out / "radius.png").exists()
    verify_certificate_and_report(out, model=str(model), data="digits", examples=None)
    document = json.loads((out / "certificate.json").read_text())
    assert document["num_radii"] == 12
    document["images"]["radius"][drawn(297, 12)[0]] = None
    (out / "certificate.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="must hold 12 numbers, and null elsewhere; it holds 11"):
        verify_certificate_and_report(out, model=str(model), data="digits", examples=None)


def test_an_attack_on_some_images_is_on_drawn_ones(digits: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_classifier(str(small(tmp_path)), image_size=8, num_channels=1)
    whole = assess(model, digits.test, "1/255", attack=PgdConfig(steps=1))
    some = assess(model, digits.test, "1/255", attack=PgdConfig(steps=1, examples=50))
    assert some.counts()["num_attacked"] == 50
    chosen = drawn(297, 50)
    # What is misclassified without an attack is broken whatever the attack draws.
    assert whole.broken is not None
    assert some.broken is not None
    assert bool(some.broken[~whole.clean[chosen]].all())
    assert not bool(some.broken[whole.verified[chosen]].any())


def small(folder: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    config = CertifiedConfig(architecture="mlp", hidden_sizes=[8], num_channels=1, image_size=8, **options)
    CertifiedForImageClassification(config).save_pretrained(folder)
    return folder


def pickled(folder: Path) -> Path:
    small(folder)
    state = CertifiedForImageClassification.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def processed(folder: Path, **settings: Any) -> Path:
    small(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", **settings})
    )
    return folder


def processor(**settings: Any) -> Callable[[Path], Path]:
    return partial(processed, **settings)


def corrupt(folder: Path) -> Path:
    small(folder)
    (folder / "preprocessor_config.json").write_text('{"do_resize": fal')
    return folder


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        (small, ["--eps", "-1/255"], "eps must lie in [0, 1]"),
        (small, ["--eps", "big"], "eps must be a number or a fraction"),
        (small, ["--eps", "0"], "--eps must be positive"),
        (small, ["--eps", "0.2", "--largest-eps", "0.1"], "at most --largest-eps"),
        (small, ["--eps", "0.1", "--time-limit", "0"], "--time-limit must be a positive number of seconds, got 0.0"),
        (small, ["--eps", "0.1", "--split", "dev"], "splits train and test, got 'dev'"),
        (partial(small, num_labels=5), ["--eps", "0.1"], "has labels up to 9, and the model has 5 logits"),
        (pickled, ["--eps", "0.1"], "with safetensors weights"),
        # What a processor's settings leave out, its class decides: ViT's resizes to 224 by default.
        (processor(), ["--eps", "0.1"], "resizes to 224 pixels, the data has images of 8"),
        (processor(size={"height": 8, "width": 4}), ["--eps", "0.1"], "resizes to 4 x 8 pixels"),
        (
            processor(image_processor_type="BitImageProcessor", size={"shortest_edge": 8}, crop_size=6),
            ["--eps", "0.1"],
            "resizes to 6 pixels",
        ),
        (processor(do_resize=False, rescale_factor=0.5), ["--eps", "0.1"], "expected 1/255"),
        (processor(do_resize=False, do_rescale=False), ["--eps", "0.1"], "expected 1/255"),
        (
            processor(image_processor_type="MobileViTImageProcessor", do_resize=False, do_center_crop=False),
            ["--eps", "0.1"],
            "not understood (do_flip_channel_order)",
        ),
        (processor(do_resize=False, rescale_offset=True), ["--eps", "0.1"], "not understood (rescale_offset)"),
        (corrupt, ["--eps", "0.1"], "its image processor cannot be loaded"),
        (lambda folder: folder / "nothing", ["--eps", "0.1"], "no config of an image classifier"),
    ],
)
def test_mistakes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    make: Callable[[Path], Path],
    arguments: list[str],
    expected: str,
) -> None:
    model = make(tmp_path / "model")
    assert call(monkeypatch, str(model), "digits", *arguments, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hf-warmup: ")
    assert expected in error
    assert not (tmp_path / "out").exists()


def test_channels_of_model_and_data_must_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = Image.fromarray(np.zeros((8, 8), dtype=np.uint8))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=2)})
    made = datasets.Dataset.from_dict({"image": [picture] * 2, "label": [0, 1]}, features=features)
    made.to_parquet(tmp_path / "data" / "test.parquet")
    with pytest.raises(ValueError, match="1 channels, the data has 3"):
        load_classifier(str(small(tmp_path / "model")), image_size=8, num_channels=3)
    # A gray model reads pictures as gray, so the command itself can not go wrong there.
    assert (
        call(monkeypatch, str(tmp_path / "model"), str(tmp_path / "data"), "--eps", "0.1", "--out", str(tmp_path)) == 0
    )
    assert "2 images of data, split test" in capsys.readouterr().out


def test_normalization_moves_into_the_model(resnet: Path) -> None:
    model = load_classifier(str(resnet), image_size=8, num_channels=1)
    assert isinstance(model, PixelClassifier)
    images = torch.rand(2, 1, 8, 8)
    plain = ResNetForImageClassification.from_pretrained(resnet).eval()
    torch.testing.assert_close(model(images), plain((images - 0.3) / 0.4).logits)
    assert not any(isinstance(module, nn.Module) and module.training for module in model.modules())
