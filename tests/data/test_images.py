"""Image data: parts that share nothing, classes of the whole data, and draws that a run's seed does not change."""

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hf_warmup.data import digits_split
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import ImageData, Images, load_images, load_split
from hf_warmup.errors import ConfigError


CLASSES, EACH = 4, 15


@pytest.fixture(scope="module", params=[True, False], ids=["named classes", "plain numbers"])
def by_class(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set in the order of its classes; every image is one gray, which no other has."""
    folder = tmp_path_factory.mktemp("sorted")
    label = datasets.ClassLabel(num_classes=CLASSES + 1) if request.param else datasets.Value("int64")
    features = datasets.Features({"image": datasets.Image(), "label": label})
    for offset, name in enumerate(("train", "validation", "test")):
        pixels = [np.full((2, 2), 60 * offset + i, np.uint8) for i in range(CLASSES * EACH)]
        rows = {"image": pixels, "label": [i // EACH for i in range(CLASSES * EACH)]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{name}.parquet")
    return str(folder)


def grays(images: Images | None) -> list[int]:
    assert images is not None
    return [int(value) for value in images.images[:, 0, 0, 0]]


def load(folder: str, **options: Any) -> ImageData:
    return load_images(DataConfig(name="sorted", folder=folder, mode="L", **options))


def test_classes_are_those_of_the_whole_data(by_class: str) -> None:
    whole = load(by_class)
    less = load(by_class, train_examples=2, test_examples=2)
    assert less.num_labels == whole.num_labels >= CLASSES
    assert (len(less.train), len(less.test)) == (2, 2)


def test_examples_are_drawn_and_not_cut_off(by_class: str) -> None:
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(load(by_class, train_examples=20, test_examples=20))
    for part in ("train", "test"):
        first, second = (getattr(data, part) for data in found)
        assert grays(first) == grays(second) == sorted(grays(first))
        assert set(first.labels.tolist()) == set(range(CLASSES))
    assert grays(load(by_class, test_examples=1000).test) == grays(load(by_class).test) == list(range(120, 180))


def test_a_validation_split_is_taken_out_of_train(by_class: str) -> None:
    whole = load(by_class, validation=13)
    assert whole.validation is whole.watched
    assert len(grays(whole.validation)) == 13
    assert sorted(grays(whole.train) + grays(whole.validation)) == list(range(60))
    assert grays(whole.test) == list(range(120, 180))
    less = load(by_class, validation=13, train_examples=5)
    assert grays(less.validation) == grays(whole.validation)
    assert set(grays(less.train)) < set(grays(whole.train))
    config = DataConfig(name="sorted", folder=by_class, mode="L", validation=13)
    for part in ("train", "validation", "test"):
        assert grays(load_split(config, part)) == grays(getattr(whole, part))  # type: ignore[arg-type]


def test_a_validation_split_may_have_a_name(by_class: str) -> None:
    named = load(by_class, validation="validation")
    assert grays(named.validation) == list(range(60, 120))
    assert grays(named.train) == list(range(60))
    without = load(by_class)
    assert without.validation is None
    assert without.watched is without.test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 60}, "60 cannot be taken out of 60 training examples"),
        ({"validation": "dev"}, "split 'dev', cannot be loaded"),
    ],
)
def test_validation_that_cannot_be_had(by_class: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(by_class, **options)


@pytest.mark.parametrize("value", ["test", "train", 0, -3, 2.5, True])
def test_validation_that_makes_no_sense(value: Any) -> None:
    with pytest.raises(ValueError, match="validation"):
        DataConfig(name="digits", validation=value)


def test_recipes_without_validation_are_recorded_as_before() -> None:
    assert "validation" not in DataConfig(name="digits").model_dump(mode="json")
    assert DataConfig(name="digits", validation=100).model_dump(mode="json")["validation"] == 100


def test_the_digits_are_divided_as_documented() -> None:
    train, test = digits_split()
    assert sorted([*train, *test]) == list(range(1797))
    assert (test < 1500).sum() == 252, "documented"
    digits = load_digits()
    data = load_images(DataConfig(name="digits", mode="L"))
    for images, rows in ((data.train, train), (data.test, test)):
        assert np.array_equal(images.images[:, 0].numpy(), digits.images[rows])
        assert np.array_equal(images.labels.numpy(), digits.target[rows])
    held_out = load_images(DataConfig(name="digits", mode="L", validation=300))
    assert (len(held_out.train), len(held_out.watched), len(held_out.test)) == (1200, 300, 297)
    with pytest.raises(ConfigError, match="the splits train and test"):
        load_images(DataConfig(name="digits", validation="dev"))
