"""`hf-warmup certify` on one's own pictures: matched by name, made to fit, found again by verify-certificate."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import typer
from chains import lively
from commands import call
from PIL import Image

from hf_warmup.cli.verify_certificate import verify_certificate_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.numpy_verifier.verifier import reprove
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies.certification.run import save_model


# Nobody looks at a picture here.
pytestmark = pytest.mark.usefixtures("no_drawing")


NAMES = ["cup", "Axe", "bag", "den"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network for images of 5 x 5 in gray, whose classes have names that are not in the order of the alphabet."""
    made = lively(3, "mlp", "none", image_size=5, num_channels=1, image_mean=[0.3], image_std=[0.4], hidden_sizes=[6])
    made.config.id2label = dict(enumerate(NAMES))
    save_model(made, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three of the four classes, in colours, and each picture of another size."""
    random = np.random.default_rng(0)
    for label, name in enumerate(["axe", "bag", "cup"]):
        (tmp_path / "things" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (5 + label, 6 + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "things" / name / f"{number}.png")
    return tmp_path / "things"


def certify(monkeypatch: pytest.MonkeyPatch, model: Path, data: Path, out: Path, *more: str) -> int:
    options = ("--eps", "1/500", "--method", "ibp", "--pgd-steps", "1", "--out", str(out))
    return call(monkeypatch, "certify", str(model), str(data), *options, *more)


def verify(out: Path, model: Path, data: Path, **options: Any) -> None:
    verify_certificate_and_report(out, model=str(model), data=str(data), examples=None, **options)


def test_pictures_are_matched_made_to_fit_and_proven_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert certify(monkeypatch, model, pictures, out) == 0
    assert "what is proven is about its images of 1 x 5 x 5" in " ".join(capsys.readouterr().out.split())
    document = read_json(out / "certificate.json")
    assert document["images"]["label"] == [1] * 3 + [2] * 3 + [0] * 3
    data = document["data"]
    assert (data["name"], data["split"]) == ("things", "all")
    assert (data["processing"]["image_processor_type"], data["processing"]["image_size"]) == (
        "CertifiedImageProcessor",
        5,
    )
    verify(out, model, pictures)
    assert "Holds" in capsys.readouterr().out
    # Nothing that it says of the processing may be something else.
    for change in ({"image_size": 6}, {"backend": "torchvision"}, {"resample": 2}):
        forged = {**document, "data": {**data, "processing": {**data["processing"], **change}}}
        write_json(tmp_path / "forged.json", forged)
        with pytest.raises(typer.Exit):
            verify(tmp_path / "forged.json", model, pictures)
    for change in ({"about": "all pictures"}, {"rotate": True}, {"size": [[3]]}):
        forged = {**document, "data": {**data, "processing": {**data["processing"], **change}}}
        write_json(tmp_path / "forged.json", forged)
        with pytest.raises(ConfigError, match="processing"):
            verify(tmp_path / "forged.json", model, pictures)
    for processing in (None, {}, []):
        write_json(tmp_path / "forged.json", {**document, "data": {**data, "processing": processing}})
        with pytest.raises(ConfigError, match=r"data\.processing"):
            verify(tmp_path / "forged.json", model, pictures)
    write_json(tmp_path / "forged.json", {**document, "data": {k: data[k] for k in data.keys() - {"processing"}}})
    with pytest.raises(ConfigError, match="must be of one size"):
        verify(tmp_path / "forged.json", model, pictures)


def test_numpy_alone_holds_the_settings_against_the_models(
    monkeypatch: pytest.MonkeyPatch, model: Path, pictures: Path, tmp_path: Path
) -> None:
    from hf_warmup.certified.loading import load_fitted
    from hf_warmup.data.config import DataConfig

    assert certify(monkeypatch, model, pictures, tmp_path / "out") == 0
    images = load_fitted(str(model), DataConfig(name=str(pictures)))
    arrays = images.images.numpy(), images.labels.numpy(), images.levels
    document = read_json(tmp_path / "out" / "certificate.json")
    assert reprove(model, document, *arrays) == []
    document["data"]["processing"]["num_channels"] = 3
    assert reprove(model, document, *arrays) == [
        "data.processing says num_channels 3, but preprocessor_config.json of the model 1."
    ]


def test_a_table_by_columns_is_found_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, pictures: Path, tmp_path: Path
) -> None:
    table = pictures / "list.csv"
    table.write_text("shelf,picture,back\naxe,axe/0.png,axe/1.png\ncup,cup/0.png,cup/1.png\n")
    assert certify(monkeypatch, model, table, tmp_path / "out") == 2
    assert "several columns hold pictures (picture, back)" in capsys.readouterr().err
    columns = ("--image-column", "back", "--label-column", "shelf")
    assert certify(monkeypatch, model, table, tmp_path / "out", *columns) == 0
    assert read_json(tmp_path / "out" / "certificate.json")["images"]["label"] == [1, 0]
    verify(tmp_path / "out", model, table, columns={"image_column": "back", "label_column": "shelf"})


def test_a_subset_is_recorded_and_found_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, pictures: Path, tmp_path: Path
) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    lines = ["---", "configs:"]
    for name, classes in (("some", ["axe", "cup"]), ("few", ["bag"])):
        found = [{"bytes": (pictures / each / "0.png").read_bytes(), "path": None} for each in classes]
        (tmp_path / "sets" / name).mkdir(parents=True)
        rows = datasets.Dataset.from_dict({"image": found, "label": classes}, features)
        rows.to_parquet(tmp_path / "sets" / name / "test.parquet")
        lines += [f"- config_name: {name}", f"  data_files: [{{split: test, path: {name}/test.parquet}}]"]
    (tmp_path / "sets" / "README.md").write_text("\n".join([*lines, "---"]))
    assert certify(monkeypatch, model, tmp_path / "sets", tmp_path / "out") == 2
    assert "several subsets; name one of them as subset: some, few" in capsys.readouterr().err
    assert certify(monkeypatch, model, tmp_path / "sets", tmp_path / "out", "--subset", "some") == 0
    assert "sets, subset some, split test" in capsys.readouterr().out
    document = read_json(tmp_path / "out" / "certificate.json")
    assert (document["data"]["subset"], document["images"]["label"]) == ("some", [1, 0])
    # A copy of all subsets, or of this one alone.
    verify(tmp_path / "out", model, tmp_path / "sets")
    verify(tmp_path / "out", model, tmp_path / "sets" / "some")
    assert "of 2 images of sets, subset some" in capsys.readouterr().out
    for subset in ("few", None):
        forged = {**document, "data": {**document["data"], "subset": subset}}
        write_json(tmp_path / "forged.json", forged)
        with pytest.raises((typer.Exit, ConfigError)):
            verify(tmp_path / "forged.json", model, tmp_path / "sets")


def test_classes_that_are_not_the_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "axe").rename(pictures / "hat")
    assert certify(monkeypatch, model, pictures, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "has classes that the model does not know: hat; the model's are cup, Axe, bag, den." in error
    assert not (tmp_path / "out").exists()
    assert certify(monkeypatch, model, pictures, tmp_path / "out", "--match-classes", "number") == 0
    assert read_json(tmp_path / "out" / "certificate.json")["images"]["label"] == [0] * 3 + [1] * 3 + [2] * 3


def test_numbering_by_the_alphabet_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, pictures: Path, tmp_path: Path
) -> None:
    config = read_json(model / "config.json")
    write_json(model / "config.json", {key: config[key] for key in config.keys() - {"id2label", "label2id"}})
    config = read_json(model / "config.json")
    write_json(model / "config.json", {**config, "num_labels": 4})
    assert certify(monkeypatch, model, pictures, tmp_path / "out") == 2
    assert "has 3 classes (axe, bag, cup), the model has 4 without names" in capsys.readouterr().err
    (pictures / "den").mkdir()
    Image.new("L", (5, 5)).save(pictures / "den" / "0.png")
    assert certify(monkeypatch, model, pictures, tmp_path / "out") == 0
    assert "go by the alphabet: axe is 0, bag is 1, cup is 2" in " ".join(capsys.readouterr().out.split())
    for number, name in enumerate(["axe", "bag", "cup", "den"]):
        (pictures / name).rename(pictures / str(number))
    assert certify(monkeypatch, model, pictures, tmp_path / "out") == 0
    assert "by the alphabet" not in capsys.readouterr().out
