"""Checkpoints stored in bfloat16 and in shards: proven as stored, loaded in float32, refused when tampered with."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hub_client import margins
from hub_process import Client
from hub_server import HubServer
from hypothesis import given
from hypothesis import strategies as st
from made_checkpoint import edit_json, restate
from safetensors.torch import load_file, save, save_file
from transformers import AutoModelForImageClassification

import hf_warmup
from hf_warmup.certified.certificate import weights_digest
from hf_warmup.cli.verify_certificate import verify_certificate_and_report
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_split
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.hub.contents import DOCUMENTS
from hf_warmup.hub.zoo import verify_checkpoint
from hf_warmup.models.saving import parse_size, store_model, stored_type
from hf_warmup.numpy_verifier.weights import INDEX, read_safetensors, read_weights, weight_files, weights_sha256
from hf_warmup.records.files import read_json
from hf_warmup.report.card import render_card


LIMIT = 2000
FIRST, LAST = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / stored.name))


def shards(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def test_weights_are_rounded_and_nothing_else(stored: Path, made: tuple[Path, Path]) -> None:
    parts = shards(stored)
    assert list(parts) == [FIRST, LAST]
    assert sorted(path.name for path in stored.iterdir()) == sorted([*parts, INDEX, *DOCUMENTS])
    assert all(sum(tensor.nbytes for tensor in part.values()) <= LIMIT for part in parts.values())
    state = {name: tensor for part in parts.values() for name, tensor in part.items()}
    before = load_file(made[1] / "model.safetensors")
    assert state.keys() == before.keys()
    for name, tensor in before.items():
        is_matrix = name.startswith("network.") and tensor.dim() > 1
        assert torch.equal(state[name], tensor.bfloat16() if is_matrix else tensor), name
    assert {state[f"normalization.{part}"].dtype for part in ("mean", "std")} == {torch.float32}
    assert sum(tensor.dtype == torch.bfloat16 for tensor in state.values()) == 4


def test_loaded_plainly_it_computes_in_float32(stored: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(stored)
    found, kept = model.state_dict(), read_weights(stored)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32, torch.int64}
    assert found.keys() == kept.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.numpy(), kept[name], strict=True)
    results = read_json(stored / "results.json")
    batch = load_split(DataConfig(name="digits", mode="L"), "test").__getitems__(range(100))
    certificate = hf_warmup.certify(
        model.eval(), batch["pixel_values"], batch["labels"], eps=results["eps"], method="ibp"
    )
    assert certificate.verified.int().tolist() == read_json(stored / "certificate.json")["images"]["verified"][:100]


def test_what_is_proven_is_proven_again_both_ways(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_checkpoint(stored)
    outcome = verify_checkpoint(str(stored), data_folder=None, root=stored.parent)
    assert outcome["equal"]
    assert outcome["found"]["num_verified"] > 20
    verify_certificate_and_report(stored, model=None, data=None, examples=None)
    assert f"Holds: {outcome['found']['num_verified']} of 297 images" in capsys.readouterr().out
    assert (
        weights_sha256(stored) == weights_digest(str(stored)) == read_json(stored / "results.json")["weights_sha256"]
    )


def test_the_card_says_what_was_stored_and_what_was_counted_before(stored: Path) -> None:
    card = " ".join((stored / "README.md").read_text().split())
    assert "are stored in **bfloat16**" in card
    assert "is about these stored weights, not about those that training ended with" in card
    results = read_json(stored / "results.json")
    assert results["storage"]["dtype"] == "bfloat16"
    counted = results["storage"]["study_counts"]
    # The study judged 100 of the 297 images, so the counts differ.
    assert counted["num_examples"] == 100
    assert f"counted {counted['num_clean']} right and {counted['num_verified']} proven of 100" in card
    same = {**results, "storage": {"dtype": "bfloat16", "study_counts": results["counts"]}}
    assert "counted the same before the weights were rounded" in render_card(same)
    assert "Before its weights were rounded" not in render_card(same)


def round_a_weight(folder: Path) -> None:
    weights = load_file(folder / FIRST)
    name = next(name for name in weights if weights[name].dtype == torch.bfloat16)
    weights[name].view(-1)[0] += 0.01
    save_file(weights, folder / FIRST, metadata={"format": "pt"})


def repoint(folder: Path) -> None:
    edit_json(
        folder, INDEX, lambda it: it["weight_map"].update({"normalization.mean": FIRST, "network.0.weight": LAST})
    )


def of_bfloat16(folder: Path) -> None:
    """A config without its dtype, whose model transformers would compute in that of its weights."""
    edit_json(folder, "config.json", lambda it: it.pop("dtype"))


def store_everything_rounded(folder: Path) -> None:
    for name, part in shards(folder).items():
        save_file({key: t.float() for key, t in part.items()}, folder / name, metadata={"format": "pt"})
    restate(folder)


def to_elsewhere(folder: Path) -> None:
    edit_json(folder, INDEX, lambda it: it["weight_map"].update({"network.0.weight": "../other.safetensors"}))


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weight": (round_a_weight, "the weights were changed"),
    "shard too few": (lambda folder: (folder / LAST).unlink(), "expected model.safetensors and no other weights, or"),
    "shard too many": (
        lambda folder: shutil.copy(folder / FIRST, folder / "model-00003-of-00003.safetensors"),
        "expected model.safetensors and no other weights, or",
    ),
    "whole besides": (lambda folder: shutil.copy(folder / FIRST, folder / "model.safetensors"), "no other weights"),
    "other name": (lambda folder: shutil.copy(folder / FIRST, folder / "m-00001-of-00002.safetensors"), "unexpected"),
    "pickle": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "unexpected file pytorch_model.bin"),
    "pickled index": (
        lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{}"),
        "unexpected file pytorch_model.bin.index.json",
    ),
    "no index": (lambda folder: (folder / INDEX).unlink(), "expected model.safetensors and no other weights, or"),
    "index": (repoint, "is not that of the shards"),
    "index to elsewhere": (to_elsewhere, "is not that of the shards"),
    "no JSON": (lambda folder: (folder / INDEX).write_text("["), "no index can be read|not as this version"),
    "dtype": (of_bfloat16, "not computed in float32"),
    "not rounded": (store_everything_rounded, "stored in float32, which results.json does not say"),
    "not told": (
        partial(edit_json, name="results.json", change=lambda it: it.pop("storage"), card=True),
        "stored in bfloat16, which results.json does not say",
    ),
}


@pytest.mark.parametrize(("tamper", "reason"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_refused(copy: Path, tamper: Callable[[Path], Any], reason: str) -> None:
    tamper(copy)
    with pytest.raises(ConfigError, match=reason):
        check_checkpoint(copy)
    with pytest.raises(ConfigError, match=reason):
        verify_checkpoint(str(copy), data_folder=None, root=copy.parent)


def test_numpy_refuses_shards_that_are_not_the_certificates(copy: Path) -> None:
    round_a_weight(copy)
    with pytest.raises(typer.Exit) as left:
        verify_certificate_and_report(copy, model=None, data=None, examples=1)
    assert left.value.exit_code == 1


def test_published_and_downloaded_it_proves_the_same(
    hub: HubServer, client: Client, stored: Path, tmp_path: Path
) -> None:
    assert client("publish", folder=str(stored), repo_id="lab/shards").error is None
    reply = client.elsewhere("margins", repo_id="lab/shards", eps="1/50", examples=10)
    assert (reply.error, reply.value) == (None, margins(str(stored), "1/50", 10))
    whole = tmp_path / "whole"
    assert client("download", repo_id="lab/shards", folder=str(whole)).error is None
    check_checkpoint(whole)


def test_by_default_weights_are_as_they_were(stored: Path, made: tuple[Path, Path], tmp_path: Path) -> None:
    assert (made[1] / "model.safetensors").read_bytes() == (
        made[0] / "models" / "short_warmup--1" / "model.safetensors"
    ).read_bytes()
    assert "storage" not in read_json(made[1] / "results.json")
    # Stored once more it does not change: neither as it is, nor rounded and divided in the same way.
    store_model(stored, tmp_path / "same")
    store_model(stored, tmp_path / "again", dtype="bfloat16", max_shard_size="2KB")
    for folder in ("same", "again"):
        assert weights_sha256(tmp_path / folder) == weights_sha256(stored)
    store_model(stored, tmp_path / "joined", dtype="bfloat16")
    assert [path.name for path in weight_files(tmp_path / "joined")] == ["model.safetensors"]
    assert (stored_type(tmp_path / "joined"), stored_type(made[1])) == ("bfloat16", "float32")


@pytest.mark.parametrize(
    ("size", "reason"),
    [("15", "such as 15MB"), ("0MB", "such as 15MB"), ("15MiB", "such as 15MB"), ("1KB", "alone takes 1,152 bytes")],
)
def test_sizes_that_cannot_be_are_refused(made: tuple[Path, Path], tmp_path: Path, size: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        store_model(made[1], tmp_path / "out", dtype="bfloat16", max_shard_size=size)
    assert parse_size("15MB") == 15_000_000


@given(st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_numpy_reads_bfloat16_as_torch_does(bits: list[int]) -> None:
    tensor = torch.tensor(bits, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    found = read_safetensors(save({"some": tensor}))["some"]
    np.testing.assert_array_equal(found.view(np.uint32), tensor.float().numpy().view(np.uint32), strict=True)
