"""Where little is proven, the summary says why, and its two ways out can be pasted."""

import shlex
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import save_model
from torch import nn

from hf_warmup import Certificate, certify
from hf_warmup.certified.split import Results
from hf_warmup.cli.arguments import DEFAULTS, split_arguments
from hf_warmup.cli.certify_summary import Asked, advice
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


FILE = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
ASKED = Asked("somebody/model", "ylecun/mnist", 3, {"split": "test", "examples": None, "image_column": "img"})


def records(proven: int, broken: int, width: float | None, method: str = "ibp") -> Results:
    """Documents of ten images, of which the last is answered wrongly."""
    by = ["ibp"] * proven + [None] * (10 - proven)
    hit = [0] * proven + [1] * broken + [0] * (9 - proven - broken) + [1]
    images = {"prediction": [0] * 10, "verified_by": by, "falsified": [0] * 9 + [1]}
    return Results(
        {"eps": "8/255", "images": {"label": [0] * 9 + [1]}},
        {"broken": hit},
        {"images": images, "relative_width": width, "method": method},
        {},
    )


def test_the_reason_is_named() -> None:
    assert advice(records(5, 0, 0.8), ASKED) == []
    said, tighter, trained, any_network = advice(records(1, 2, 31.42), ASKED)
    assert said.startswith(
        "Of 9 right answers 1 are proven, an attack broke 2, 6 are open. The bounds lose 31.4 times"
    )
    again = (
        "hf-warmup certify somebody/model ylecun/mnist --eps 8/255 --split test --image-column img --method cascade"
    )
    assert tighter.endswith(f": {again}")
    train = "hf-warmup train data.name=ylecun/mnist data.mode=RGB data.test_split=test data.image_column=img eps=8/255"
    assert trained.endswith(f"a network of the package: {train}")
    assert "fit_certified(model, images, labels, eps='8/255')" in any_network
    assert "not finite" in advice(records(1, 2, None), ASKED)[0]
    attacked = advice(records(1, 6, 31.42, "cascade"), ASKED)
    assert "an attack broke 6, 2 are open. No method proves what is broken" in attacked[0]
    assert not any("Tighter" in line for line in attacked), "no method is tighter than the cascade"


def test_relative_width_is_what_bounds_take_from_the_lead() -> None:
    found = Certificate(
        torch.tensor([0.5, -3.0, -torch.inf, -9.0]),
        torch.tensor([True, False, False, False]),
        0.1,
        leads=torch.tensor([1.0, 1.0, 1.0, -1.0]),
    )
    assert found.relative_width == (0.5 + 4.0) / 2
    # One weight: the lead is 2 x, and the bounds lose 2 eps of it.
    model = nn.Linear(1, 2, bias=False).eval()
    model.weight.data = torch.tensor([[1.0], [-1.0]])
    images, labels = torch.tensor([[0.2], [0.6]]), torch.tensor([0, 0])
    assert certify(model, images, labels, eps=0.1).relative_width == pytest.approx(0.1 / 0.4)


def test_what_is_advised_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FILE)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    save_model(model, "own weights.safetensors")
    asked = ["--weights", "own weights.safetensors", "--examples", "60", "--eps", "8/255"]
    assert call(monkeypatch, "certify", "own.py:make", "digits", *asked, "--method", "ibp", "--pgd-steps", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    again, train = (
        next(line.partition(": ")[2] for line in lines if line.startswith(start))
        for start in ("  Tighter bounds: ", "  Certified training of this network: ")
    )
    assert call(monkeypatch, *shlex.split(again)[1:]) == 0
    assert "Tighter bounds" not in capsys.readouterr().out
    config, overrides = split_arguments(shlex.split(train)[2:], default=DEFAULTS / "digits_certified.yaml")
    study = parse(CertifiedStudyConfig, config, overrides=overrides)
    assert (study.model, study.data.name, study.data.mode, study.eps) == (
        {"factory": "own.py:make"},
        "digits",
        "L",
        "8/255",
    )
