"""Out to complete verifiers of others and back: the same function, the same box, and nothing believed unchecked."""

import copy
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from chains import SIZES, lively

from hf_warmup.bounds.box import box_of
from hf_warmup.certified import Verifier
from hf_warmup.certified.export import export
from hf_warmup.certified.vnnlib import file_name, property_of, read_results
from hf_warmup.cli import export as command
from hf_warmup.cli.certify import Proving, certify_and_report
from hf_warmup.cli.verify_certificate import verify_certificate_and_report
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, load_split
from hf_warmup.errors import ConfigError
from hf_warmup.models.pixel_classifier import load_classifier
from hf_warmup.records.files import read_json
from hf_warmup.studies.certification.run import save_model


EPS = "1/40"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with a certificate about 30 digits, of which one is undecided at least."""
    found = tmp_path_factory.mktemp("exported")
    sizes = {"num_channels": 1, "image_mean": [0.3], "image_std": [0.4], "num_labels": 10, "image_size": 8}
    save_model(lively(11, "cnn_small", "full", **{**SIZES["cnn_small"], **sizes}), found)
    options: dict[str, Any] = {"split": "test", "largest_eps": None, "steps": 1, "restarts": 1, "examples": 60}
    certify_and_report(str(found), "digits", eps=EPS, out=found, proving=Proving("crown-ibp"), **options)
    assert read_json(found / "certificate.json")["num_unknown"] > 1
    return found


@pytest.fixture(scope="module")
def images() -> Images:
    return load_split(DataConfig(name="digits", mode="L", test_examples=60), "test")


def unknown(folder: Path) -> list[int]:
    columns = read_json(folder / "certificate.json")["images"]
    rows = zip(columns["verified"], columns["falsified"], strict=True)
    return [image for image, (proven, broken) in enumerate(rows) if not proven and not broken]


def test_the_box_of_a_property_contains_the_exact_one_and_hardly_more() -> None:
    image, radius = torch.tensor([[[0.0, 1.0, 0.1], [0.5, 1 / 3, 0.97]]]), Fraction(8, 255)
    text = property_of(image, 2, 4, "8/255")
    for sign, operator in ((-1, ">="), (1, "<=")):
        ends = [Fraction(found) for found in re.findall(rf"\(assert \({operator} X_\d+ (\S+)\)\)", text)]
        exact = [
            min(max(Fraction(pixel) + sign * radius, Fraction(0)), Fraction(1)) for pixel in image.flatten().tolist()
        ]
        assert all(0 <= sign * (end - true) <= Fraction(1, 10**16) for end, true in zip(ends, exact, strict=True))
    assert re.findall(r"\(and \(>= Y_(\d) Y_(\d)\)\)", text) == [("0", "2"), ("1", "2"), ("3", "2")]
    assert text.count("declare-const X_") == 6
    assert text.count("declare-const Y_") == 4
    assert text.count("(") == text.count(")")


def test_onnxruntime_computes_what_the_model_does_and_only_undecided_images_go_out(
    folder: Path, images: Images, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    command.export(str(folder), out=tmp_path, split="test", every=False, timeout=7)
    left = unknown(folder)
    assert [path.name for path in sorted((tmp_path / "vnnlib").iterdir())] == [file_name(image) for image in left]
    rows = (tmp_path / "instances.csv").read_text().splitlines()
    assert rows == [f"model.onnx,vnnlib/{file_name(image)},7" for image in left]
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    model = load_classifier(str(folder), image_size=8, num_channels=1)
    pixels = images.__getitems__(range(20))["pixel_values"]
    theirs = np.concatenate([session.run(["logits"], {"pixel_values": one[None].numpy()})[0] for one in pixels])
    with torch.no_grad():
        output = model(pixels)
    assert theirs == pytest.approx(getattr(output, "logits", output).numpy(), abs=1e-5, rel=1e-5)


def test_what_onnxruntime_computes_otherwise_is_not_exported(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("hf_warmup.certified.export.onnx_bytes", lambda model, example: b"")
    monkeypatch.setattr("hf_warmup.certified.export._difference", lambda path, model, pixels: float("nan"))
    with pytest.raises(ConfigError, match="nothing can be exported"):
        export(torch.nn.Flatten(), images, [0], EPS, tmp_path)
    with pytest.raises(ConfigError, match="no image is undecided"):
        export(torch.nn.Flatten(), images, [], EPS, tmp_path)


def write_result(place: Path, image: int, verdict: str, point: torch.Tensor | None = None) -> None:
    place.mkdir(exist_ok=True)
    values = (
        [] if point is None else [f"(X_{index} {value!r})" for index, value in enumerate(point.flatten().tolist())]
    )
    text = "\n".join([verdict, *(["(" + "\n".join([*values, "(Y_0 1.5)"]) + ")"] if values else [])])
    (place / f"{Path(file_name(image)).stem}.txt").write_text(text + "\n")


def add(folder: Path, results: Path) -> dict[str, Any]:
    command.add_verdicts(folder, results, "some-tool")
    return read_json(folder / "certificate.json")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "copied"))


def counterexample(folder: Path, images: Images, eps: float) -> tuple[int, torch.Tensor]:
    """A point beyond the certificate's radius that an undecided image does not survive, found by a wide search."""
    model = load_classifier(str(folder), image_size=8, num_channels=1)
    verifier, generator = Verifier(model), torch.Generator().manual_seed(0)
    for image in unknown(folder):
        batch = images.__getitems__([image])
        for _ in range(50):
            noise = (2 * torch.rand(200, 1, 8, 8, generator=generator, dtype=torch.float64) - 1).sign()
            points = (batch["pixel_values"].double() + eps * noise).clamp(0, 1)
            broken = verifier.refutes(points, box_of(points, 1.0), batch["labels"].expand(200))
            if bool(broken.any()):
                return image, points[broken][0]
    raise AssertionError("no image can be broken")


def test_answers_join_the_certificate_under_their_own_name(
    copied: Path, images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, left, before = tmp_path / "results", unknown(copied), read_json(copied / "certificate.json")
    write_result(results, left[0], "unsat")
    write_result(results, left[1], "timeout")
    after = add(copied, results)
    assert after["told_by"] == {"some-tool": {"unsat": [left[0]], "sat": [], "timeout": [left[1]]}}
    # What is only told is not counted.
    assert {**after, "told_by": {}} == before
    verify_certificate_and_report(copied, model=None, data=None, examples=None)
    assert "some-tool says: 1 unsat, 1 timeout. An unsat of its is not proven here" in capsys.readouterr().out


def test_a_counterexample_is_checked_and_then_stands_on_its_own(
    copied: Path, images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, wide = tmp_path / "results", 0.3
    image, point = counterexample(copied, images, wide)
    write_result(results, image, "sat", point)
    # Outside of the radius it is nothing.
    after = add(copied, results)
    assert after["told_by"] == {}
    assert f"image {image}: a counterexample outside the radius" in capsys.readouterr().out
    # A point of the image itself is in the box, and harmless.
    write_result(results, image, "sat", images.__getitems__([image])["pixel_values"][0].double())
    assert add(copied, results)["told_by"] == {}
    assert "not surely misclassified" in capsys.readouterr().out
    write_result(results, image, "sat")
    add(copied, results)
    assert "sat without a counterexample" in capsys.readouterr().out


def test_a_true_counterexample_ends_an_image(copied: Path, images: Images, tmp_path: Path) -> None:
    """The same certificate at a radius at which the undecided image can be broken."""
    options: dict[str, Any] = {"split": "test", "largest_eps": "1/2", "steps": 1, "restarts": 1, "examples": 60}
    certify_and_report(str(copied), "digits", eps="3/10", out=copied, proving=Proving("crown-ibp"), **options)
    before = read_json(copied / "certificate.json")
    image, point = counterexample(copied, images, 0.3 - 1e-9)
    write_result(tmp_path / "results", image, "sat", point)
    after = add(copied, tmp_path / "results")
    assert after["told_by"]["some-tool"]["sat"] == [image]
    assert after["images"]["falsified"][image] == 1
    assert after["num_falsified"] == before["num_falsified"] + 1
    assert after["num_unknown"] == before["num_unknown"] - 1
    verify_certificate_and_report(copied, model=None, data=None, examples=None)
    # Its unsat would contradict what was checked.
    write_result(tmp_path / "other", image, "unsat")
    with pytest.raises(ConfigError, match="a counterexample is stored"):
        command.add_verdicts(copied, tmp_path / "other", "other-tool")
    assert read_json(copied / "certificate.json") == after
    forged = copy.deepcopy(after)
    forged["told_by"]["some-tool"].update(sat=[], unsat=[image])
    (copied / "certificate.json").write_text(json.dumps(forged))
    with pytest.raises(typer.Exit):
        verify_certificate_and_report(copied, model=None, data=None, examples=None)


def test_results_are_read_from_folders_and_tables(tmp_path: Path) -> None:
    write_result(tmp_path / "a", 3, "unsat")
    write_result(tmp_path / "a", 4, "sat", torch.tensor([0.25, 1.0]))
    write_result(tmp_path / "a", 5, "error")
    (tmp_path / "a" / "image_00003.vnnlib").write_text("unsat")
    told = list(read_results(tmp_path / "a"))
    assert [(each.image, each.verdict) for each in told] == [(3, "unsat"), (4, "sat")]
    assert told[1].point is not None
    assert told[1].point.tolist() == [0.25, 1.0]
    table = tmp_path / "a" / "results.csv"
    table.write_text(
        "x,model.onnx,vnnlib/image_00004.vnnlib,0.1,violated,3.2\nx,m,vnnlib/image_00007.vnnlib,0,holds,1\n"
    )
    told = list(read_results(table))
    assert [(each.image, each.verdict) for each in told] == [(4, "sat"), (7, "unsat")]
    assert told[0].point is not None
    table.write_text("x,m,vnnlib/image_00007.vnnlib,0,holds,1\n" * 2)
    with pytest.raises(ConfigError, match="image 7 is answered twice"):
        list(read_results(table))
    with pytest.raises(ConfigError, match="no results"):
        list(read_results(tmp_path))
    (tmp_path / "a" / "image_00004.txt").write_text("sat\n((X_0 0.5) (X_2 0.5))")
    with pytest.raises(ConfigError, match="lacks some of X_0 to X_2"):
        list(read_results(tmp_path / "a"))
