"""A person's own network: trained by a recipe that names its function, certified by the command, refused in a line."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from commands import call

from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_images
from hf_warmup.models.factory import make_own, state_digest


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


FILE = """
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification
def plain(width=8, p=0.0):
    layers = [nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, 10)]
    return nn.Sequential(*layers)
def resnet():
    sizes = {"embedding_size": 4, "hidden_sizes": [4], "depths": [1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))
def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10))
def colors():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 10))
def few():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
def recurrent():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 10, batch_first=True)
        def forward(self, x):
            return self.lstm(x.flatten(1, 2))[0][:, -1]
    return Recurrent()
"""
RECIPE = {
    "name": "own",
    "reproduces": "nothing",
    "data": {"name": "digits", "mode": "L", "train_examples": 64, "test_examples": 20},
    "eps": "1/64",
    "training": {"epochs": 1, "ramp_start": 0.0, "ramp_epochs": 1.0, "batch_size": 32},
    "pgd": {"steps": 1},
    "seeds": [0],
}


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"own_net_{abs(hash(str(tmp_path)))}.py"
    Path(name).write_text(FILE)
    return name


def recipe(model: dict[str, object], **arm: object) -> str:
    Path("recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "model": model, "arms": [{"name": "ours", **arm}]}))
    return "recipe.yaml"


def test_what_is_trained_is_certified(
    net: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    factory = f"{net}:plain"
    assert call(monkeypatch, "train", recipe({"factory": factory, "width": 12}, ibp_init=False), "--out", "run") == 0
    weights = Path("run/models/ours--0/model.safetensors")
    study = json.loads(Path("run/study.json").read_text())
    assert len(study["model"]["file_sha256"]) == 64
    # The function's own default is another width.
    options = ["digits", "--eps", "1/64", "--examples", "20", "--pgd-steps", "1", "--out", "found"]
    assert call(monkeypatch, "certify", factory, *options, "--weights", str(weights)) == 2
    assert "1.weight is (12, 64) there and (8, 64) in the model" in capsys.readouterr().err
    Path(net).write_text(FILE.replace("width=8", "width=12"))
    sys.modules.pop(Path(net).stem)
    assert call(monkeypatch, "certify", factory, *options, "--weights", str(weights)) == 0
    document = json.loads(Path("found/certificate.json").read_text())
    assert list(document["model"]["settings_sha256"]) == [net]
    model = make_own(factory, weights=weights).eval()
    assert document["weights_sha256"] == state_digest(model)
    images = load_images(DataConfig(name="digits", mode="L", test_examples=20)).test
    predictions = model(images.__getitems__(range(20))["pixel_values"]).argmax(1)
    assert document["images"]["prediction"] == predictions.tolist()
    assert call(monkeypatch, "verify-certificate", "found") == 2
    assert "a model that a program makes" in capsys.readouterr().err
    # Going on after the file has changed would mix two networks.
    assert call(monkeypatch, "train", "recipe.yaml", "--out", "run") == 2
    assert "other settings (model)" in capsys.readouterr().err


def test_a_model_of_transformers_is_saved_as_one(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "train", recipe({"factory": f"{net}:resnet"}), "--out", "run") == 0
    options = ["--eps", "1/64", "--examples", "5", "--pgd-steps", "1", "--method", "ibp"]
    assert call(monkeypatch, "certify", "run/models/ours--0", "digits", *options) == 0
    assert json.loads(Path("certificate/certificate.json").read_text())["num_examples"] == 5


def test_a_model_without_relu_is_trained_without_its_regularizers(
    net: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert call(monkeypatch, "train", recipe({"factory": f"{net}:smooth"}), "--out", "run") == 0
    assert f"arm ours: {net}:smooth has no ReLU, which the two regularizers are about" in caplog.text
    # Nor are there pictures of any.
    assert {path.name for path in Path("run/plots").iterdir()} == {"errors.png", "errors.svg"}


@pytest.mark.parametrize(
    ("model", "arm", "message"),
    [
        ({"factory": "NET:plain", "p": 0.5}, {}, "dropout (3) has no bounds in training; give it p=0"),
        ({"factory": "NET:plain", "depth": 3}, {}, "got an unexpected keyword argument 'depth'"),
        ({"factory": "NET:plain"}, {"batch_norm": "conv"}, "batch_norm is for the built-in networks"),
        ({"factory": "NET:few"}, {}, "has 9 logits, and the data 10 classes"),
        ({"factory": "NET:few"}, {"ibp_init": True}, "has 9 logits, and the data 10 classes"),
        ({"factory": "NET:colors"}, {}, "does not take images of 1 x 8 x 8"),
        ({"factory": "NET:recurrent"}, {"ibp_init": False}, "lstm"),
        ({"factory": 3}, {}, "must be FILE.py:FUNCTION or MODULE:FUNCTION, got 3"),
        ({"architectur": "mlp"}, {}, "`factory` names a model of your own"),
    ],
)
def test_models_that_cannot_be_trained_are_refused_before_training(
    net: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: dict[str, object],
    arm: dict[str, object],
    message: str,
) -> None:
    model = {
        key: str(value).replace("NET", net) if key == "factory" and value != 3 else value
        for key, value in model.items()
    }
    state = torch.random.get_rng_state()
    assert call(monkeypatch, "train", recipe(model, **arm), "--out", "run") == 2
    assert message in capsys.readouterr().err
    assert torch.equal(state, torch.random.get_rng_state())
    assert not Path("run").exists()


def test_models_that_cannot_be_certified_are_refused(
    net: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"few": "has labels up to 9, and the model has 9 logits", "colors": "1 x 8 x 8", "recurrent": "lstm"}
    for name, message in wrong.items():
        assert call(monkeypatch, "certify", f"{net}:{name}", "digits", "--eps", "0.1") == 2
        assert message in capsys.readouterr().err
    Path("folder").mkdir()
    assert call(monkeypatch, "certify", "folder", "digits", "--eps", "0.1", "--weights", "w.safetensors") == 2
    assert "--weights is for a model that a function makes" in capsys.readouterr().err
