"""Checkpoint folders: packaged from a study, checked; and each way of tampering is refused with its reason."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_checkpoint import STUDY, edit, edit_json, restate, train_study
from safetensors.torch import load_file, save_file

from hf_warmup.certified.certificate import weights_digest
from hf_warmup.certified.placing import Placing
from hf_warmup.cli.package import package_and_report
from hf_warmup.data.splits import drawn
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint, curve_of
from hf_warmup.hub.contents import DOCUMENTS
from hf_warmup.hub.modeling_code import add_modeling_code
from hf_warmup.hub.packaging import folder_of_work, package_checkpoint
from hf_warmup.hub.zoo import verify_checkpoint
from hf_warmup.records.files import read_json


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "tiny-digits"))


def test_package_holds_what_a_repository_holds_and_agrees_with_the_study(made: tuple[Path, Path]) -> None:
    study_folder, folder = made
    check_checkpoint(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["model.safetensors", *DOCUMENTS])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    results, study = (read_json(place / "results.json") for place in (folder, study_folder))
    certificate = read_json(folder / "certificate.json")
    assert (results["name"], certificate["num_examples"]) == ("tiny-digits", 297)
    assert results["counts"] | {"num_attacked": 200} == results["counts"]
    assert 20 < results["counts"]["num_verified"] <= 297 - results["counts"]["num_broken"]
    assert results["radii"]["curve"][1] == {"eps": "1/50", "share": results["scores"]["verified"]["accuracy"]}
    # The study judged 100 of these images.
    judged = [certificate["images"]["verified"][index] for index in drawn(297, 100)]
    assert sum(judged) == study["arms"][0]["runs"][1]["num_verified"]
    broken = read_json(folder / "attack.json")["broken"]
    assert [index for index, each in enumerate(broken) if each is not None] == drawn(297, 200).tolist()
    assert results["study"]["verified_by_seed"] == [run["verified_accuracy"] for run in study["arms"][0]["runs"]]
    assert (results["training"]["seed"], results["training"]["updates"]) == (1, 160)
    assert results["training"]["seconds"] > 0


def test_its_recipe_trains_the_same_weights(made: tuple[Path, Path], tmp_path: Path) -> None:
    again = train_study((made[1] / "training.yaml").read_text(), tmp_path / "again")
    assert [path.name for path in (again / "models").iterdir()] == ["short_warmup--1"]
    assert weights_digest(str(again / "models" / "short_warmup--1")) == weights_digest(str(made[1]))


def test_packaging_that_is_killed_goes_on_and_ends_like_an_unbroken_one(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    study, whole = made
    kept = folder_of_work(tmp_path / whole.name)
    shutil.copytree(study, tmp_path / "tiny")

    def kill(purpose: str, done: int, of: int) -> None:
        if purpose == "radii" and done > 64:
            raise KeyboardInterrupt

    place = partial(package_checkpoint, tmp_path / "tiny", "short_warmup--1", placing=Placing(batch_size=64))
    with pytest.raises(KeyboardInterrupt):
        place(tmp_path / whole.name, progress=kill)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", kept.name}
    with pytest.MonkeyPatch.context() as patch:
        # What was attacked is not attacked again.
        patch.setattr("hf_warmup.certified.evaluation.pgd", None)
        place(tmp_path / whole.name)
    assert not kept.exists()
    place(tmp_path / "again" / whole.name)
    for path in (tmp_path / "again" / whole.name).iterdir():
        assert (tmp_path / whole.name / path.name).read_bytes() == path.read_bytes(), path.name


def change_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("0.weight"))
    weights[name].view(-1)[0] += 1e-3
    save_file(weights, folder / "model.safetensors")


def add(folder: Path, name: str, content: str = "x") -> None:
    (folder / name).write_text(content)


def link(folder: Path) -> None:
    shutil.move(folder / "radius.png", folder.parent / "radius.png")
    (folder / "radius.png").symlink_to(folder.parent / "radius.png")


def forge_eps(folder: Path) -> None:
    for name in ("certificate.json", "results.json"):
        edit_json(folder, name, lambda document: document.update(eps="1/5"))
    radii = curve_of(read_json(folder / "certificate.json"))
    edit_json(folder, "results.json", lambda document: document.update(radii=radii), card=True)


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["network.0.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    restate(folder)


AUTO_MAP = {"AutoConfig": "somebody/else--configuration.Config"}
TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weight": (change_weight, "SHA-256 of model.safetensors"),
    "missing weight": (drop_a_weight, r"do not fit its config: network.0.weight"),
    "card": (partial(edit, name="README.md", before="## Numbers", after="## Figures"), "edited by hand"),
    "metadata": (partial(edit, name="README.md", before="value: 0.", after="value: 1."), "edited by hand"),
    "bin": (partial(add, name="pytorch_model.bin"), "unexpected file pytorch_model.bin"),
    "pickle": (partial(add, name="extra.pkl"), "unexpected file extra.pkl"),
    "second weights": (partial(add, name="other.safetensors"), "unexpected file other.safetensors"),
    "code": (partial(add, name="modeling_certified.py", content="import os"), "unexpected file modeling_certified.py"),
    "link": (link, "radius.png is a link"),
    "folder": (lambda folder: (folder / "more").mkdir(), "more is a link or a folder"),
    "missing": (lambda folder: (folder / "certificate.json").unlink(), "missing certificate.json"),
    "count": (
        partial(edit_json, name="certificate.json", change=lambda it: it.update(num_verified=290)),
        "num_verified is 290, but the images' numbers give",
    ),
    "count of results": (
        partial(edit_json, name="results.json", change=lambda it: it["counts"].update(num_clean=297), card=True),
        "counts is .* in results.json",
    ),
    "accuracy": (
        partial(
            edit_json, name="results.json", change=lambda it: it["scores"]["verified"].update(accuracy=0.99), card=True
        ),
        "accuracies in results.json",
    ),
    "interval": (
        partial(
            edit_json, name="results.json", change=lambda it: it["scores"]["pgd"].update(interval=[0, 1]), card=True
        ),
        "accuracies in results.json",
    ),
    "margin": (
        partial(edit_json, name="certificate.json", change=lambda it: it["images"]["margin"].__setitem__(0, 9.0)),
        "certificate.json was changed",
    ),
    "one image less": (
        partial(edit_json, name="certificate.json", change=lambda it: it["images"]["label"].pop()),
        "one number per image",
    ),
    "eps": (forge_eps, "eps 1/5 is 0.2 or"),
    "curve": (lambda folder: (folder / "radius.png").write_bytes(b"x"), "radius.png was changed"),
    "recipe": (partial(edit, name="training.yaml", before="epochs: 5", after="epochs: 6"), "not the recipe"),
    "broken recipe": (partial(add, name="training.yaml", content="[1"), "cannot be read as YAML"),
    "broken json": (partial(add, name="results.json", content="[1"), "results.json is not a JSON object"),
    "empty results": (partial(add, name="results.json", content="{}"), "SHA-256"),
    "other layers": (partial(edit, name="config.json", before="8,\n", after="9,\n"), "does not load"),
    "other model": (
        partial(edit, name="config.json", before='"model_type": "certified"', after='"model_type": "vit"'),
        "describes a 'vit' model",
    ),
    "foreign code": (
        partial(edit_json, name="config.json", change=lambda it: it.update(auto_map=AUTO_MAP)),
        "names code that is not in the folder",
    ),
    "impossible count": (
        partial(edit_json, name="attack.json", change=lambda it: it["broken"].__setitem__(0, 999)),
        "attack.json must say 0, 1 or null",
    ),
    "no number": (
        partial(edit_json, name="certificate.json", change=lambda it: it.update(eps="small")),
        "eps must be a fraction in lowest terms",
    ),
    "no versions": (partial(edit_json, name="results.json", change=lambda it: it.pop("versions")), "versions"),
    "no eps": (
        partial(edit_json, name="certificate.json", change=lambda it: it.pop("eps")),
        "a certificate lacks eps",
    ),
}


@pytest.mark.parametrize(("tamper", "reason"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_refused(copy: Path, tamper: Callable[[Path], Any], reason: str) -> None:
    check_checkpoint(copy)
    tamper(copy)
    with pytest.raises(ConfigError, match=reason):
        check_checkpoint(copy)
    with pytest.raises(ConfigError, match=reason):
        verify_checkpoint(str(copy), data_folder=None, root=copy.parent)


def test_what_git_and_the_hub_leave_is_no_part_of_it(copy: Path) -> None:
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    add(copy, ".gitattributes")
    check_checkpoint(copy)


def test_modeling_code_is_part_of_it_unchanged_and_unused(copy: Path) -> None:
    add_modeling_code(copy)
    check_checkpoint(copy)
    assert verify_checkpoint(str(copy), data_folder=None, root=copy.parent)["equal"]
    edit(copy, "architectures.py", "import", "import os\nimport")
    with pytest.raises(ConfigError, match="unexpected file architectures.py"):
        check_checkpoint(copy)


@pytest.mark.parametrize(
    ("run", "change", "reason"),
    [
        ("short_warmup--7", None, "no run 'short_warmup--7'; it has short_warmup--0, short_warmup--1"),
        ("short_warmup--0", lambda folder: (folder / "results.json").unlink(), "not a finished study"),
        ("short_warmup--0", lambda folder: shutil.rmtree(folder / "models" / "short_warmup--0"), "lacks model.safete"),
        (
            "short_warmup--0",
            lambda folder: edit(folder, "results.json", '"diverged": false', '"diverged": true'),
            "diverged in training",
        ),
        (
            "short_warmup--0",
            lambda folder: edit_json(folder, "results.json", lambda it: it["config"]["data"].update(name="/my/data")),
            "data.name is a path",
        ),
        (
            "short_warmup--0",
            lambda folder: edit_json(folder, "results.json", lambda it: it["config"].pop("training")),
            "not one of this version",
        ),
    ],
)
def test_studies_that_cannot_be_packaged(
    made: tuple[Path, Path], tmp_path: Path, run: str, change: Callable[[Path], Any] | None, reason: str
) -> None:
    study = made[0]
    if change is not None:
        study = Path(shutil.copytree(study, tmp_path / "study"))
        change(study)
    with pytest.raises(ConfigError, match=reason):
        package_checkpoint(study, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_the_studys_is_not_packaged(made: tuple[Path, Path], tmp_path: Path) -> None:
    study = train_study(STUDY, tmp_path / "study", "data.test_examples=null", "training.epochs=3", "seeds=[0]")
    shutil.copy(made[0] / "models" / "short_warmup--1" / "model.safetensors", study / "models" / "short_warmup--0")
    with pytest.raises(ConfigError, match=r"certifying its model again proves .* not those of [\w-]+\.$"):
        package_checkpoint(study, "short_warmup--0", tmp_path / "zoo" / "out")
    with pytest.raises(ConfigError, match="or bfloat16 is too coarse for it"):
        package_checkpoint(study, "short_warmup--0", tmp_path / "zoo" / "out", dtype="bfloat16")
    assert not list((tmp_path / "zoo").iterdir())


def test_nothing_is_overwritten(
    made: tuple[Path, Path], copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="not an empty folder"):
        package_checkpoint(made[0], "short_warmup--0", copy)
    (tmp_path / "empty").mkdir()
    package_and_report(made[0], "short_warmup--0", out=tmp_path / "empty", data=None, as_json=True)
    assert json.loads(capsys.readouterr().out)["scores"] == read_json(tmp_path / "empty" / "results.json")["scores"]
    check_checkpoint(tmp_path / "empty")


def test_radii_may_be_looked_for_of_some_images(made: tuple[Path, Path], tmp_path: Path) -> None:
    folder = package_checkpoint(
        made[0], "short_warmup--1", tmp_path / "some", placing=Placing(batch_size=256, radius_examples=20)
    )
    check_checkpoint(folder)
    certificate, whole = (read_json(place / "certificate.json") for place in (folder, made[1]))
    chosen = drawn(297, 20).tolist()
    radii = certificate["images"]["radius"]
    assert [place for place, radius in enumerate(radii) if radius is not None] == chosen
    assert [radii[place] for place in chosen] == [whole["images"]["radius"][place] for place in chosen]
    assert read_json(folder / "results.json")["radii"]["num_examples"] == 20
    assert "Radii were looked for of 20 images" in (folder / "README.md").read_text()
    assert "Radii were looked for" not in (made[1] / "README.md").read_text()
