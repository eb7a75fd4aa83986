"""Pictures of any size and transformers' image processors: the same answers as by the processor itself, and bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from hf_warmup.certified.loading import load_pair
from hf_warmup.data.config import DataConfig
from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedImageProcessor
from hf_warmup.models.picture_fitting import load_fitting
from hf_warmup.models.pixel_classifier import fits, wanted_size


NORMAL = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "do_rescale": True}


def model_in(folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4], "depths": [1], "layer_type": "basic", "num_labels": 3}
    names = {"id2label": {0: "bee", 1: "cat", 2: "ant"}, "label2id": {"bee": 0, "cat": 1, "ant": 2}}
    ResNetForImageClassification(ResNetConfig(num_channels=3, **sizes, **names)).save_pretrained(folder)
    if settings:
        (folder / "preprocessor_config.json").write_text(json.dumps({**NORMAL, **settings}))
    return folder


def draw(path: Path, size: tuple[int, int]) -> Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(size[0]).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 6, "width": 10}},
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 9}, "crop_size": 8},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}, "crop_pct": 0.875},
    ],
    ids=lambda settings: settings["image_processor_type"],
)
def test_what_is_certified_is_what_the_model_sees(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = model_in(tmp_path / "model", **settings)
    pictures = [
        draw(tmp_path / "data" / "cat" / "0.png", (9, 14)),
        draw(tmp_path / "data" / "cat" / "1.png", (20, 11)),
    ]
    _, classifier, images = load_pair(str(model), None, DataConfig(name=str(tmp_path / "data")))
    assert (images.images.dtype, images.labels.tolist(), images.levels) == (torch.uint8, [1, 1], 255)
    theirs = AutoImageProcessor.from_pretrained(model, backend="pil")(pictures, return_tensors="pt")["pixel_values"]
    plain = AutoModelForImageClassification.from_pretrained(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(classifier(images[:2]["pixel_values"]), plain(theirs).logits)
    assert images.processing is not None
    assert images.processing["size"] == settings["size"]
    # As a file holds it, so that it can be compared when it is read again.
    assert json.loads(json.dumps(images.processing)) == images.processing


def test_images_of_the_right_size_stay_as_they_are(tmp_path: Path) -> None:
    model = model_in(tmp_path / "model", image_processor_type="BitImageProcessor", size=9, crop_size=8)
    picture = draw(tmp_path / "data" / "ant" / "0.png", (8, 8))
    _, _, images = load_pair(str(model), None, DataConfig(name=str(tmp_path / "data")))
    assert (images.processing, images.labels.tolist()) == (None, [2])
    assert np.array_equal(images.images[0].movedim(0, -1).numpy(), np.asarray(picture))


def test_without_a_processor_images_need_not_be_square(tmp_path: Path) -> None:
    model = model_in(tmp_path / "model")
    draw(tmp_path / "data" / "ant" / "0.png", (12, 8))
    _, classifier, images = load_pair(str(model), None, DataConfig(name=str(tmp_path / "data")))
    assert images.images.shape == (1, 3, 8, 12)
    assert classifier(images[:1]["pixel_values"]).logits.shape == (1, 3)
    draw(tmp_path / "data" / "ant" / "1.png", (8, 12))
    with pytest.raises(ConfigError, match=r"of one size, found 12 x 8 and 8 x 12; resize them, or take a model whose"):
        load_pair(str(model), None, DataConfig(name=str(tmp_path / "data")))


def test_a_processor_that_makes_several_sizes_is_refused(tmp_path: Path) -> None:
    settings = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 4}, "do_center_crop": False}
    model = model_in(tmp_path / "model", **settings)
    for number, size in enumerate([(9, 14), (20, 11)]):
        draw(tmp_path / "data" / "cat" / f"{number}.png", size)
    with pytest.raises(ConfigError, match="its image processor cannot make the pictures fit"):
        load_pair(str(model), None, DataConfig(name=str(tmp_path / "data")))


def test_built_in_networks_take_their_own_processor(tmp_path: Path) -> None:
    CertifiedImageProcessor(4, 1).save_pretrained(tmp_path)
    fitting = load_fitting(str(tmp_path))
    assert fitting is not None
    picture = draw(tmp_path / "x.png", (9, 7))
    expected = picture.convert("L").resize((4, 4), Image.Resampling.BILINEAR)
    assert np.array_equal(fitting([picture.convert("L")])[0, 0], np.asarray(expected))
    assert fitting.fits(4, 4)
    assert not fitting.fits(4, 5)


@pytest.mark.parametrize(
    ("settings", "inside", "outside"),
    [
        ({}, (3, 5), None),
        ({"do_resize": True, "size": {"shortest_edge": 4, "longest_edge": 9}}, (4, 7), (5, 5)),
        ({"do_resize": True, "size": {"shortest_edge": 4}, "crop_pct": 0.9}, (4, 4), (4, 7)),
        ({"do_resize": False, "size": {"height": 4, "width": 4}}, (9, 2), None),
        ({"do_center_crop": True, "crop_size": 4, "do_resize": True, "size": 9}, (4, 4), (9, 9)),
    ],
)
def test_sizes_that_stay(settings: dict[str, Any], inside: tuple[int, int], outside: tuple[int, int] | None) -> None:
    assert fits(wanted_size(settings), *inside)
    assert outside is None or not fits(wanted_size(settings), *outside)
