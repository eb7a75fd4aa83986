"""From a folder to the Hub and back, by a process whose cache has nothing of it: the same margins are proven."""

import json
from pathlib import Path

import pytest
import torch
from hub_client import margins
from hub_process import CLIENT, WRITER, Client, environment
from hub_server import Fault, HubServer
from warm import Program

from hf_warmup import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.numpy_verifier.weights import settings_sha256, weights_sha256
from hf_warmup.records.files import read_json
from hf_warmup.studies.certification.run import save_model


REPOSITORY = "lab/round-trip"


def test_published_and_loaded_by_name_it_proves_the_same(
    hub: HubServer, client: Client, made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert client("publish", folder=str(made[1]), repo_id=REPOSITORY, private=True).error is None
    # The download breaks off in the middle, and is taken up where it was.
    cut = Fault("GET", "/resolve/.*model.safetensors", "cut")
    hub.faults.append(cut)
    reply = client.elsewhere("margins", repo_id=REPOSITORY, eps="1/50", examples=10)
    assert reply.error is None
    assert cut.seen == 2
    assert reply.value == margins(str(made[1]), "1/50", 10)
    assert len(set(reply.value)) == 10
    # Private: nobody without the right to read it gets anything.
    assert "lab/round-trip" in str(client("margins", repo_id=REPOSITORY, eps="1/50", examples=1, token=None).error)
    # What was downloaded whole is a checkpoint in all its parts; with one bit wrong, which the client does not notice,
    # it is not.
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert client("download", repo_id=REPOSITORY, folder=str(whole)).error is None
    check_checkpoint(whole)
    hub.faults.append(Fault("GET", "/resolve/.*model.safetensors", "corrupt"))
    assert client("download", repo_id=REPOSITORY, folder=str(broken)).error is None
    with pytest.raises(ConfigError, match="the weights were changed"):
        check_checkpoint(broken)


def test_a_certificate_of_a_hub_model_names_its_commit_and_files(
    hub: HubServer, client: Client, made: tuple[Path, Path], tmp_path: Path
) -> None:
    assert client("publish", folder=str(made[1]), repo_id="lab/known").error is None
    options = ["--eps", "1/50", "--method", "ibp", "--examples", "5", "--pgd-steps", "1", "--out", "out"]
    words = ["hf-warmup", "certify", "lab/known", "digits", *options]
    assert client("command", words=words, folder=str(tmp_path)).value == 0
    document = read_json(tmp_path / "out" / "certificate.json")
    commit = hub.store.repositories["models", "lab/known"].commit("main").oid
    assert document["model"] == {
        "repository": "lab/known",
        "revision": commit,
        "settings_sha256": settings_sha256(made[1]),
    }
    assert document["weights_sha256"] == weights_sha256(made[1])
    # From nothing but the certificate.
    words = ["hf-warmup", "verify-certificate", "out"]
    reply = client("command", words=words, folder=str(tmp_path))
    assert (reply.value, reply.error) == (0, None)
    assert "Holds" in reply.printed


def test_a_download_that_breaks_off_for_good_leaves_nothing_to_load(
    hub: HubServer, client: Client, made: tuple[Path, Path]
) -> None:
    assert client("publish", folder=str(made[1]), repo_id="lab/cut").error is None
    hub.faults.append(Fault("GET", "/resolve/.*model.safetensors", "lost", times=1000))
    for _ in range(2):
        assert client("margins", repo_id="lab/cut", eps="1/50", examples=1).error is not None
    hub.faults.clear()
    assert client("margins", repo_id="lab/cut", eps="1/50", examples=1).value == margins(str(made[1]), "1/50", 1)


def save_random_model(folder: Path, dense_size: int) -> int:
    """A model with random weights and running statistics; the bytes of its weights."""
    torch.manual_seed(0)
    config = CertifiedConfig(architecture="cnn_small", image_size=8, num_channels=1, dense_size=dense_size)
    model = CertifiedForImageClassification(config).train()
    model(torch.rand(16, 1, 8, 8))
    save_model(model.eval(), folder)
    return (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("dense_size", "least"), [(16, 1e4), pytest.param(19_000, 2e7, marks=pytest.mark.slow, id="20 MB")]
)
def test_of_two_processes_one_uploads(
    dense_size: int, least: float, hub: HubServer, client: Client, tmp_path: Path
) -> None:
    folder, repo_id = tmp_path / "model", f"lab/of-{dense_size}"
    assert save_random_model(folder, dense_size) > least
    request = {"verb": "push", "token": WRITER, "out": str(tmp_path / "rank")}
    request["arguments"] = {"folder": str(folder), "repo_id": repo_id}
    surroundings = {**environment(hub, tmp_path / "cache"), "ACCELERATE_USE_CPU": "true"}
    program = Program([str(CLIENT), json.dumps(request)], environment=surroundings, ranks=2)
    _, errors = program.communicate()
    assert program.returncode == 0, errors[-3000:]
    ranks = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2)]
    assert [rank["world_size"] for rank in ranks] == [2, 2]
    assert [rank["error"] for rank in ranks] == [None, None]
    assert [rank["value"] for rank in ranks] == [True, False]
    assert hub.count("POST", "/commit/") == hub.count("GET", "whoami") == hub.count("PUT", ".") == 1
    assert len(hub.store.repositories["models", repo_id].branches["main"]) == 2
    reply = client("margins", repo_id=repo_id, eps="1/50", examples=4)
    assert reply.error is None
    assert reply.value == margins(str(folder), "1/50", 4)
