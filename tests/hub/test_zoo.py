"""The zoo: what there is, and cards checked by proving and attacking again, also those that agree with themselves."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelInfo
from made_checkpoint import STUDY, edit_json, restate, train_study
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from hf_warmup.cli.zoo import sentences, zoo_list_and_report, zoo_verify_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.hub import zoo
from hf_warmup.hub.checkpoint import check_checkpoint, counts_of
from hf_warmup.hub.packaging import package_checkpoint
from hf_warmup.hub.zoo import list_checkpoints, verify_checkpoint
from hf_warmup.records.files import read_json
from hf_warmup.statistics.proportions import clopper_pearson


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "tiny-digits"))


def test_card_is_verified(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    outcome = verify_checkpoint(str(made[1]), data_folder=None, root=Path("none"))
    assert outcome["equal"]
    assert (
        outcome["stated"]
        == outcome["found"]
        == counts_of(read_json(made[1] / "certificate.json"), read_json(made[1] / "attack.json"))
    )
    assert zoo_verify_and_report("tiny-digits", data=None, root=made[1].parent)
    assert "the card is true on all 297 images" in capsys.readouterr().out


def test_a_forgery_that_agrees_with_itself_is_found_by_proving_again(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = read_json(copy / "certificate.json")["images"]
    attacked = read_json(copy / "attack.json")["broken"]
    unproven = next(
        index
        for index, verified in enumerate(images["verified"])
        if not verified and images["label"][index] == images["prediction"][index] and attacked[index] != 1
    )

    def forge(certificate: dict[str, Any]) -> None:
        for key, value in (("verified", 1), ("margin", 1.0), ("radius", 0.03)):
            certificate["images"][key][unproven] = value
        certificate["num_verified"] += 1
        certificate["verified_accuracy"] = certificate["num_verified"] / 297
        certificate["verified_interval"] = list(clopper_pearson(certificate["num_verified"], 297))

    edit_json(copy, "certificate.json", forge)
    restate(copy)
    check_checkpoint(copy)
    assert not zoo_verify_and_report(str(copy), data=None, root=copy.parent, as_json=True)
    outcome = json.loads(capsys.readouterr().out)
    assert not outcome["equal"]
    printed = "\n".join(sentences(outcome))
    true = sum(images["verified"])
    assert f"differs: num_verified: {true + 1} stated, {true} found" in printed
    assert f"differs: verified: certificate.json differs on 1 images, the first of them number {unproven}" in printed


def test_changed_weights_with_everything_stated_anew_are_found_by_proving_again(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = max(name for name in weights if name.endswith(".weight") and weights[name].dim() == 2)
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    restate(copy)
    outcome = verify_checkpoint("tiny-digits", data_folder=None, root=copy.parent)
    assert not outcome["equal"]
    assert any(difference.startswith("num_clean") for difference in outcome["differences"])


def pictures(folder: Path, *, count: int, first: int) -> str:
    """Digits as a data set in a folder, as people keep copies of the Hub's."""
    digits = load_digits()
    images = [Image.fromarray((15 * image).astype(np.uint8)) for image in digits.images[first : first + count]]
    labels = digits.target[first : first + count].tolist()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    for split in ("train", "test"):
        made = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
        made.to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_data_in_a_folder(tmp_path: Path) -> None:
    place, other = (pictures(tmp_path / name, count=80, first=first) for name, first in (("a", 0), ("b", 80)))
    overrides = ("data.name=somebody/digits", f"data.folder={place}", "data.test_examples=null", "seeds=[3]")
    study = train_study(STUDY, tmp_path / "study", *overrides, "training.epochs=3", "training.batch_size=16")
    folder = package_checkpoint(study, "short_warmup--3", tmp_path / "zoo" / "other", data_folder=place)
    assert str(tmp_path) not in "".join(
        path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".json")
    )
    assert "The study has no other seed" in (folder / "README.md").read_text()
    assert verify_checkpoint(str(folder), data_folder=place, root=tmp_path)["equal"]
    outcome = verify_checkpoint(str(folder), data_folder=other, root=tmp_path)
    assert any(difference.startswith("label: certificate.json differs on") for difference in outcome["differences"])
    assert any(difference.startswith("images: the pixels") for difference in outcome["differences"])
    with pytest.raises(ConfigError, match="somebody/digits.*cannot be loaded"):
        verify_checkpoint(str(folder), data_folder=None, root=tmp_path)


def test_list_says_what_there_is_also_without_network(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "zoo"
    shutil.copytree(made[1], root / "one")
    (root / "two").mkdir()
    one, two = list_checkpoints(root)
    assert (one["name"], one["data"], one["eps"], one["problem"]) == ("one", "digits", "1/50", None)
    assert one["verified"] == read_json(root / "one" / "results.json")["scores"]["verified"]["accuracy"]
    assert two["problem"] == "no usable results.json"
    with caplog.at_level(logging.WARNING):
        zoo_list_and_report(root, author=None, local=False)
    assert "Hub cannot be asked" in caplog.text
    printed = capsys.readouterr().out
    assert f"{100 * one['verified']:.2f} %" in printed
    assert list_checkpoints(tmp_path / "none") == []


def on_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, *, more: tuple[str, ...] = ()) -> list[Any]:
    """The client's answers as if `folder` were a repository; `asked` collects what is downloaded."""
    asked: list[Any] = []
    names = [*(path.name for path in folder.iterdir()), ".gitattributes", *more]
    front = (folder / "README.md").read_text().split("---")[1]
    models = [ModelInfo(id="somebody/tiny", cardData=yaml.safe_load(front)), ModelInfo(id="somebody/odd")]

    def snapshot(name: str, **options: Any) -> str:
        asked.append((name, options["revision"], options["allow_patterns"]))
        cache = folder.parent / "cache"
        cache.mkdir()
        for path in folder.iterdir():
            (cache / path.name).symlink_to(path)
        return str(cache)

    class Api:
        def model_info(self, name: str) -> SimpleNamespace:
            return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=each) for each in names])

        def list_models(self, **_: Any) -> list[ModelInfo]:
            return models

    monkeypatch.setattr(zoo, "HfApi", Api)
    monkeypatch.setattr(zoo, "get_session", lambda: SimpleNamespace(head=lambda *_, **__: None))
    monkeypatch.setattr(zoo, "snapshot_download", snapshot)
    return asked


def test_a_checkpoint_of_the_hub(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = on_the_hub(monkeypatch, copy)
    assert verify_checkpoint("somebody/tiny", data_folder=None, root=tmp_path / "none")["equal"]
    [(name, revision, patterns)] = asked
    assert (name, revision) == ("somebody/tiny", "abc")
    assert not any(pattern.endswith(("bin", "pkl", "*")) for pattern in patterns)
    tiny, odd = zoo.list_hub_checkpoints()
    [local] = list_checkpoints(copy.parent)[1:]
    assert tiny == {**local, "name": "somebody/tiny", "place": "Hub"}
    assert (odd["name"], odd["problem"]) == ("somebody/odd", "its card states no verified accuracy")


def test_a_pickle_on_the_hub_is_refused_before_anything_is_downloaded(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = on_the_hub(monkeypatch, copy, more=("pytorch_model.bin",))
    with pytest.raises(ConfigError, match="holds pytorch_model.bin"):
        verify_checkpoint("somebody/tiny", data_folder=None, root=tmp_path / "none")
    assert not asked


def test_names_that_lead_nowhere(made: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="there: tiny-digits"):
        verify_checkpoint("tiny-mnist", data_folder=None, root=made[1].parent)
    with pytest.raises(ConfigError, match="cannot be downloaded from the Hub"):
        verify_checkpoint("somebody/tiny", data_folder=None, root=made[1].parent)
