"""One small certificate, changed everywhere: of no change does `verify-certificate` say that it holds."""

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from chains import SIZES, lively

from hf_warmup.cli import verify_certificate
from hf_warmup.cli.certify import Proving, certify_and_report
from hf_warmup.data.images import load_split
from hf_warmup.errors import ConfigError
from hf_warmup.hub.modeling_code import modeling_code
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies.certification.run import save_model


KEPT = ("certificate.json", "attack.json", "radius.png", "verdicts.json", "counterexamples.npz", "proof")


@pytest.fixture(scope="module", params=["ibp", "cascade"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with a certificate about 12 digits, some of them proven."""
    found = tmp_path_factory.mktemp("mutated")
    sizes = {"num_channels": 1, "image_mean": [0.3], "image_std": [0.4], "num_labels": 10, "image_size": 8}
    save_model(lively(11, "cnn_small", "full", **{**SIZES["cnn_small"], **sizes}), found)
    options: dict[str, Any] = {"split": "test", "largest_eps": None, "steps": 1, "restarts": 1, "examples": 12}
    eps = {"ibp": "1/1000", "cascade": "1/300"}[request.param]
    certify_and_report(str(found), "digits", eps=eps, out=found, proving=Proving(request.param), **options)
    document = read_json(found / "certificate.json")
    assert 0 < sum(document["images"]["verified"]) < 12
    if request.param == "cascade":
        assert document["num_verified_by"]["ibp"] < document["num_verified"]
        # What others say is no claim of ours, but it has one spelling.
        told = {"other": {"unsat": [document["images"]["falsified"].index(0)], "sat": [], "timeout": []}}
        write_json(found / "certificate.json", {**document, "told_by": told})
    return found


@pytest.fixture(autouse=True)
def _digits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images: dict[str, Any] = {}

    def once(config: Any, part: Any) -> Any:
        key = repr(config)
        if key not in images:
            images[key] = load_split(config, part)
        return images[key]

    monkeypatch.setattr("hf_warmup.data.images.load_split", once)
    monkeypatch.setattr("hf_warmup.hub.modeling_code.modeling_code", functools.cache(modeling_code))


def holds(certificate: Path, model: Path) -> bool:
    """Whether the command says so, or says what is no verdict; whatever else it raises fails the test."""
    try:
        verify_certificate.verify_certificate_and_report(certificate, model=str(model), data=None, examples=None)
    except typer.Exit as left:
        return left.exit_code != 1
    except ConfigError as error:
        return len(str(error).splitlines()) != 1
    return True


def others(value: Any) -> Iterator[Any]:
    """What may stand in the place of a value: of every type, and near it."""
    yield from (None, True, False, -1, 7, 2**70, -0.5, 1.5, "", "other", [], [value], {}, {"a": value})
    if isinstance(value, int | float):
        yield from (value + 1, value - 1, 2 * value + 1, str(value))
        yield float(value) if isinstance(value, int) else int(value)
    if isinstance(value, str):
        yield from (value + " ", value.upper(), value[::-1], value[1:], value + "\n")
    if isinstance(value, list) and value:
        yield from (value[:-1], [*value, value[-1]], value[::-1])


def mutated(value: Any) -> Iterator[Any]:
    """The value changed at one place, at any depth: replaced, a key or an item less or more, or another name of it."""
    yield from others(value)
    if isinstance(value, dict):
        for key, item in value.items():
            rest = {name: each for name, each in value.items() if name != key}
            yield from (rest, {**value, key + " ": item}, {**rest, key.upper(): item})
            yield from ({**value, key: each} for each in mutated(item))
        yield {**value, "more": 1}
    elif isinstance(value, list):
        for index in range(0, len(value), 3):
            yield from ([*value[:index], each, *value[index + 1 :]] for each in others(value[index]))


def test_no_change_of_a_certificate_holds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = read_json(folder / "certificate.json")
    place, tried = tmp_path / "changed.json", 0
    shutil.copyfile(folder / "counterexamples.npz", tmp_path / "counterexamples.npz")
    place.write_text(json.dumps(original))
    assert holds(place, folder)
    for document in mutated(original):
        text = json.dumps(document)
        if text == json.dumps(original):
            continue
        place.write_text(text)
        # A smaller radius than the one that was found is proven as well.
        if holds(place, folder):
            assert weaker(document, original), capsys.readouterr().out + text
        tried += 1
    assert tried > 1000


def weaker(document: dict[str, Any], original: dict[str, Any]) -> bool:
    """Whether a certificate says less of some image's radius, or else of what others say, and else the same."""
    again = copy.deepcopy(original)
    if "told_by" in document:
        again["told_by"] = document["told_by"]
    again["images"]["radius"] = radius = document["images"]["radius"]
    return again == document and all(
        type(new) is float and 0 <= new <= old for new, old in zip(radius, original["images"]["radius"], strict=True)
    )


def test_no_key_may_stand_twice(folder: Path, tmp_path: Path) -> None:
    text = (folder / "certificate.json").read_text()
    for key in ("format", "eps", "settings_sha256", "levels", "radius", "num_verified"):
        assert f'"{key}":' in text
        (tmp_path / "twice.json").write_text(text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1))
        assert not holds(tmp_path / "twice.json", folder)
    for literal in ("NaN", "Infinity", "1e999"):
        (tmp_path / "twice.json").write_text(text.replace("0.0,", f"{literal},", 1))
        assert not holds(tmp_path / "twice.json", folder)


def test_no_change_of_a_file_holds(folder: Path, tmp_path: Path) -> None:
    """Every file of the folder: emptied, cut, longer, removed, and every bit of a byte here and there."""
    model = Path(shutil.copytree(folder, tmp_path / "model"))
    certificate = folder / "certificate.json"
    for name in sorted(path.name for path in folder.iterdir() if path.name not in KEPT):
        whole = (folder / name).read_bytes()
        changed = [b"", whole[:-2], whole[: len(whole) // 2], whole + b"x", whole + whole, b"[]", b"{}"]
        places = sorted({0, 9, len(whole) // 3, len(whole) // 2, len(whole) - 3})
        changed += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
        for content in changed:
            (model / name).write_bytes(content)
            assert not holds(certificate, model), (name, content[:40])
        (model / name).unlink()
        assert not holds(certificate, model), name
        (model / name).write_bytes(whole)
        assert holds(certificate, model)
    for name in ("pytorch_model.bin", "other.safetensors", "generation_config.json", "modeling.py", "x.pkl", "a.npz"):
        (model / name).write_bytes(b"{}")
        assert not holds(certificate, model), name
        (model / name).unlink()
    assert holds(certificate, model)
