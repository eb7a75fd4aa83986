"""`hf-warmup train` on folders of a person's own pictures: names of classes stay with the model, images need not be
square."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import call
from PIL import Image

from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_images
from hf_warmup.errors import ConfigError
from hf_warmup.studies.certification.config import CertifiedArmConfig
from hf_warmup.studies.certification.model import model_config


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


RECIPE = {
    "name": "own",
    "reproduces": "nothing",
    "eps": "1/64",
    "training": {
        **{"epochs": 1, "ramp_start": 0.0, "ramp_epochs": 1.0, "batch_size": 8, "flip": True, "crop_padding": 1},
    },
    "pgd": {"steps": 1},
    "seeds": [0],
    "arms": [{"name": "ours"}],
}
NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 2 * 4, 2))
"""


def pictures(folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Dark and bright pictures in train/ and test/, `size` wide and high."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name, least in (("dark", 0), ("bright", 128)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(least, least + 128, size[::-1], dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return {"name": folder.name, "mode": "L"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_images_that_are_not_square_are_trained_on_and_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pictures(tmp_path / "shades", (6, 4))
    (tmp_path / "oblong_net.py").write_text(NET)
    Path("recipe.yaml").write_text(
        yaml.safe_dump({**RECIPE, "data": data, "model": {"factory": "oblong_net.py:make"}})
    )
    assert call(monkeypatch, "train", "recipe.yaml", "--out", "run") == 0, capsys.readouterr().err
    weights = "run/models/ours--0/model.safetensors"
    options = ("--eps", "1/64", "--method", "crown", "--pgd-steps", "1", "--out", "proven")
    assert call(monkeypatch, "certify", "oblong_net.py:make", "shades", "--weights", weights, *options) == 0
    document = json.loads(Path("proven/certificate.json").read_text())
    assert document["images"]["label"] == [0] * 3 + [1] * 3
    trained = json.loads(Path("run/results.json").read_text())["arms"][0]["runs"][0]
    assert document["clean_accuracy"] == trained["clean_accuracy"]
    options = ("--eps", "1/64", "--all", "--out", "exported")
    assert call(monkeypatch, "export", "oblong_net.py:make", "shades", "--weights", weights, *options) == 0


def test_built_in_networks_know_the_names_and_want_squares(tmp_path: Path) -> None:
    arm = CertifiedArmConfig(name="ours")
    data = load_images(DataConfig(**pictures(tmp_path / "square", (4, 4))))
    config = model_config({"architecture": "mlp"}, data, arm)
    assert (config.id2label, config.num_labels) == ({0: "bright", 1: "dark"}, 2)
    assert data.test.labels.tolist() == [0] * 3 + [1] * 3
    assert model_config({"architecture": "mlp", "num_labels": 5}, data, arm).id2label[0] == "LABEL_0"
    oblong = load_images(DataConfig(**pictures(tmp_path / "oblong", (6, 4))))
    with pytest.raises(ConfigError, match="take square images, the data has 4 x 6; crop them"):
        model_config({"architecture": "mlp"}, oblong, arm)
    digits = load_images(DataConfig(name="digits", mode="L"))
    assert model_config({"architecture": "mlp"}, digits, arm).id2label[0] == "LABEL_0"
    assert torch.equal(digits.test.labels.unique(), torch.arange(10))
