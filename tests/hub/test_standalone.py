"""A checkpoint that carries its code: loaded where this package is not, and as ever where it is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.hub.modeling_code import AUTO_MAP, MODULES, add_modeling_code, modeling_code
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor
from hf_warmup.studies.certification.run import save_model


# Residual, so that every file of the code is used; with statistics and a normalization that are not the defaults.
OPTIONS = {"architecture": "resnext", "stem_channels": 4, "bottleneck_width": 2, "dense_size": 8, "image_size": 8}

ELSEWHERE = """
import importlib.util, json, sys
assert importlib.util.find_spec("hf_warmup") is None
try:
    import hf_warmup
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("hf_warmup can be imported here")
import numpy, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

folder = sys.argv[1]
found = {}
for trust in ({}, {"trust_remote_code": False}):
    try:
        AutoModelForImageClassification.from_pretrained(folder, **trust)
    except ValueError as error:
        found[str(trust)] = str(error)
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
pixels = numpy.arange(8 * 8 * 3, dtype=numpy.uint8).reshape(8, 8, 3)
with torch.no_grad():
    found["logits"] = model(**processor(pixels, return_tensors="pt")).logits[0].tolist()
found["class"] = type(model).__module__
found["std"] = model.normalization.std.flatten().tolist()
classify = pipeline("image-classification", model=folder, trust_remote_code=True)
found["scores"] = [answer["score"] for answer in classify(Image.fromarray(pixels), top_k=10)]
sharded = AutoModelForImageClassification.from_pretrained(sys.argv[2], trust_remote_code=True).eval()
found["sharded class"] = type(sharded).__module__
with torch.no_grad():
    found["sharded logits"] = sharded(torch.ones(1, 1, 8, 8) / 3).logits[0].tolist()
print()  # transformers has asked its question without ending the line
print(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    normalization = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    model = CertifiedForImageClassification(CertifiedConfig(**OPTIONS, **normalization))
    model(torch.rand(16, 3, 8, 8))
    save_model(model.eval(), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def logits_here(folder: Path) -> list[float]:
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert type(model) is CertifiedForImageClassification
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    with torch.no_grad():
        logits: list[float] = model(CertifiedImageProcessor(8, 3)(pixels, return_tensors="pt").pixel_values)[0][
            0
        ].tolist()
    return logits


def bare_python(folder: Path) -> Path:
    """A Python with links to all packages that this one has but ours, however it was installed."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", show], text=True).strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        # An editable package is reached through a .pth file.
        if not path.name.startswith("hf_warmup") and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    return python


def test_it_loads_where_the_package_is_not(folder: Path, stored: Path, tmp_path: Path) -> None:
    expected = logits_here(folder)
    # In bfloat16 and in several files as well.
    sharded = Path(shutil.copytree(stored, tmp_path / "sharded"))
    with torch.no_grad():
        thirds = AutoModelForImageClassification.from_pretrained(sharded).eval()(torch.ones(1, 1, 8, 8) / 3).logits
    for each in (folder, sharded):
        add_modeling_code(each)
    check_checkpoint(sharded)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    ran = subprocess.run(
        [bare_python(tmp_path / "bare"), "-c", ELSEWHERE, folder, sharded],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["logits"] == expected
    assert found["class"].startswith("transformers_modules.")
    assert found["sharded class"].startswith("transformers_modules.")
    assert found["sharded logits"] == thirds[0].tolist()
    assert found["scores"] == pytest.approx(sorted(torch.tensor(expected).softmax(0).tolist(), reverse=True))
    assert found["std"] == pytest.approx([0.2, 0.3, 0.4])
    for trust in ("{}", "{'trust_remote_code': False}"):
        assert "trust_remote_code=True" in found[trust]


def test_nothing_changes_where_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = logits_here(folder)
    config = AutoConfig.from_pretrained(folder).to_dict()
    add_modeling_code(folder)

    def refuse(*_: object) -> str:
        raise AssertionError("a person was asked")

    monkeypatch.setattr("builtins.input", refuse)
    assert logits_here(folder) == expected
    assert AutoConfig.from_pretrained(folder).to_dict() == {**config, "auto_map": AUTO_MAP["config.json"]}
    assert type(AutoImageProcessor.from_pretrained(folder)) is CertifiedImageProcessor
    picture = Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    classify = pipeline("image-classification", model=str(folder), trust_remote_code=False)
    assert type(classify.model) is CertifiedForImageClassification
    assert len(classify(picture)) == 5
    assert not [name for name in sys.modules if name.startswith("transformers_modules.checkpoint")]


def test_the_code_is_the_packages_and_stands_alone(folder: Path) -> None:
    code = modeling_code()
    assert set(code) == {f"{name}.py" for name in MODULES}
    for name, text in code.items():
        assert "import hf_warmup" not in text
        assert "from hf_warmup" not in text
        compile(text, name, "exec")
    # A module of the package that another one comes to need must not be left behind.
    relative = {line.split()[1] for text in code.values() for line in text.splitlines() if line.startswith("from .")}
    assert relative == {".architectures", ".configuration_certified"}
    for name, references in AUTO_MAP.items():
        for reference in references.values():
            module, _, class_name = reference.partition(".")
            assert f"class {class_name}(" in code[f"{module}.py"], name


def test_adding_twice_is_adding_once(folder: Path) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = content()
    add_modeling_code(folder)
    once = content()
    assert set(once) == {*before, *modeling_code()}
    assert {name for name in before if once[name] != before[name]} == set(AUTO_MAP)
    add_modeling_code(folder)
    assert content() == once


def test_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        add_modeling_code(tmp_path)
    config = folder / "config.json"
    original = config.read_text()
    for text, message in (
        (original.replace('"certified"', '"vit"'), "says 'vit'"),
        ("[1]", "expected a JSON object, got a list"),
        ("{", "cannot be read as JSON"),
    ):
        config.write_text(text)
        with pytest.raises(ConfigError, match=message):
            add_modeling_code(folder)
    assert not list(folder.glob("*.py"))
