"""Pieces of folders: whole or refused, in batches, with weights rounded on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_scripts import load
from safetensors.torch import load_file, save_file


pack = load("gpu/pack.py")


def write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@given(
    contents=st.dictionaries(st.sampled_from(["a", "b.txt", "c/d", "c/e/f"]), st.binary(max_size=50), min_size=1),
    size=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_join_to_what_was_split(tmp_path: Path, contents: dict[str, bytes], size: int) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    folder = write_folder(tmp_path / "folder", contents)
    for _ in range(2):
        manifest = pack.split(pack.entries_of(folder), tmp_path / "out", size=size)
        pack.join(tmp_path / "out", tmp_path / "joined")
    assert contents_of(tmp_path / "joined") == contents
    sizes = [(tmp_path / "out" / piece["name"]).stat().st_size for piece in manifest["pieces"]]
    assert all(each == size for each in sizes[:-1])
    assert sizes[-1] <= size
    assert len(list((tmp_path / "out").iterdir())) == len(sizes) + 1


def _drop(pieces: Path) -> None:
    (pieces / "piece_001").unlink()


def _flip(pieces: Path) -> None:
    content = bytearray((pieces / "piece_001").read_bytes())
    content[3] ^= 1
    (pieces / "piece_001").write_bytes(content)


def _shorten(pieces: Path) -> None:
    (pieces / "piece_002").write_bytes((pieces / "piece_002").read_bytes()[:-1])


def _escape(pieces: Path) -> None:
    path = pieces / "manifest.json"
    path.write_text(path.read_text().replace('"a"', '"../a"'))


def _no_manifest(pieces: Path) -> None:
    (pieces / "manifest.json").unlink()


def _other_sum(pieces: Path) -> None:
    path = pieces / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_drop, "piece_001 is missing; 2 of 3 pieces"),
        (_flip, "piece_001 is damaged"),
        (_shorten, "piece_002 is damaged"),
        (_escape, "outside of its folder: ../a"),
        (_no_manifest, "manifest.json is missing"),
        (_other_sum, "a is not what manifest.json says"),
    ],
)
def test_incomplete_pieces_are_refused(
    harm: Callable[[Path], None], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "folder", {"a": b"x" * 25, "b": b"y" * 25})
    pack.split(pack.entries_of(folder), tmp_path / "out", size=20)
    harm(tmp_path / "out")
    assert pack.main(["join", str(tmp_path / "out"), str(tmp_path / "joined")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "joined").exists(), "nothing is half written"


def test_folders_of_something_else_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "folder", {"a": b"x"})
    write_folder(tmp_path / "mine", {"letter.txt": b"dear"})
    arguments: list[list[Any]] = [["split", folder, tmp_path / "mine"], ["split", tmp_path / "none", tmp_path / "o"]]
    arguments += [["collect", folder, tmp_path / "o"]]
    for each, reason in zip(arguments, ("holds other files", "is no folder", "no study.json"), strict=True):
        assert pack.main([str(word) for word in each]) == 2
        assert reason in capsys.readouterr().err
    pack.split(pack.entries_of(folder), tmp_path / "out", size=20)
    assert pack.main(["join", str(tmp_path / "out"), str(tmp_path / "mine")]) == 2
    assert "files of something else (letter.txt)" in capsys.readouterr().err
    assert contents_of(tmp_path / "mine") == {"letter.txt": b"dear"}


def make_study(folder: Path) -> Path:
    drawn = torch.Generator().manual_seed(0)
    plain = {"study.json": b"{}", "results.json": b'{"config": {"name": "x"}}', "cells/a--0.jsonl": b"{}\n" * 400}
    plain |= {"cells/a--1.jsonl.partial": b"{}\n", "timings/a--0.json": b"{}", "models/a--0/config.json": b"{}"}
    plain |= {"checkpoints/a--1/step_00000004/x": b"state", "checkpoints/a--1/step_00000008.partial/x": b"half"}
    write_folder(folder, plain)
    weights = {
        "network.0.weight": torch.rand(30, 40, generator=drawn),
        "network.0.bias": torch.rand(30, generator=drawn),
    }
    weights["normalization.mean"] = torch.rand(1, 3, 1, 1, generator=drawn)
    save_file(weights, folder / "models" / "a--0" / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_study_comes_back_in_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, gathered = make_study(tmp_path / "study"), tmp_path / "gathered"
    gathered.mkdir()
    for batch in range(1, 9):
        options = ["--size", "1KiB", "--files", "3", "--batch", str(batch)]
        code = pack.main(["collect", str(study), str(tmp_path / "out"), *options])
        if code:
            break
        made = list((tmp_path / "out").iterdir())
        assert len(made) <= 3
        assert all(path.stat().st_size <= 1024 for path in made if path.name != "manifest.json")
        for path in made:
            shutil.copy(path, gathered)
    assert (code, batch) == (2, 3)
    assert "no such batch" in capsys.readouterr().err
    assert pack.main(["join", str(gathered), str(tmp_path / "back")]) == 0
    found, sent = contents_of(tmp_path / "back"), contents_of(study)
    weights = "models/a--0/model.safetensors"
    unfinished = {name for name in sent if name.startswith("checkpoints") or name.endswith(".partial")}
    assert found.keys() == sent.keys() - unfinished | {"recipe.yaml"}
    assert all(found[name] == sent[name] for name in found if name not in (weights, "recipe.yaml"))
    before, after = load_file(study / weights), load_file(tmp_path / "back" / weights)
    for name, tensor in before.items():
        rounded = tensor.bfloat16().float() if name == "network.0.weight" else tensor
        torch.testing.assert_close(after[name], rounded, rtol=0, atol=0)
    assert not torch.equal(before["network.0.weight"], after["network.0.weight"])


def test_what_is_unfinished_comes_back_if_it_is_asked_for(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    assert pack.main(["collect", str(study), str(tmp_path / "out"), "--unfinished"]) == 0
    assert pack.main(["join", str(tmp_path / "out"), str(tmp_path / "back")]) == 0
    found = contents_of(tmp_path / "back")
    assert found["cells/a--1.jsonl.partial"] == b"{}\n"
    assert [name for name in found if name.startswith("checkpoints")] == ["checkpoints/a--1/step_00000004/x"]
