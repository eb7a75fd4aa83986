"""`hf-warmup train --push-to-hub`: with each checkpoint and at the end, a branch a run where there are several."""

from pathlib import Path

from hub_process import READER, Client, held, num_commits
from hub_server import Fault, HubServer


RECIPE = """
name: pushed
reproduces: nothing; it tests the program
data: {name: digits, mode: L, train_examples: 128, test_examples: 32}
model: {architecture: cnn_small, hidden_sizes: [4, 4], dense_size: 8}
eps: "1/50"
training: {epochs: 2, ramp_start: 0, ramp_epochs: 1, batch_size: 64, checkpoint_every: 1}
pgd: {steps: 2}
arms: [{name: short_warmup}]
seeds: [%s]
"""


def write(folder: Path, seeds: str) -> str:
    path = folder / "pushed.yaml"
    path.write_text(RECIPE % seeds)
    return str(path)


def test_a_single_run_goes_to_the_main_branch(hub: HubServer, client: Client, tmp_path: Path) -> None:
    # The first push fails for good: training goes on, and the next one arrives.
    hub.faults.append(Fault("POST", "/api/models/lab/pushed/commit/main", "status", times=3, status=503))
    reply = client("train", recipe=write(tmp_path, "0"), folder=str(tmp_path / "out"), repo_id="lab/pushed")
    assert reply.error is None
    assert "training goes on" in reply.printed
    found = held(hub, "lab/pushed")
    model = tmp_path / "out" / "models" / "short_warmup--0"
    assert {name: found[name] for name in found if name != "README.md"} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }
    assert b"Nothing is proven" in found["README.md"]
    assert num_commits(hub, "lab/pushed") == 1
    assert not list((tmp_path / "out").rglob("step_*"))


def test_several_runs_have_a_branch_each(hub: HubServer, client: Client, tmp_path: Path) -> None:
    reply = client("train", recipe=write(tmp_path, "0, 1"), folder=str(tmp_path / "out"), repo_id="lab/both")
    assert reply.error is None
    for seed in (0, 1):
        branch = f"short_warmup--{seed}"
        stored = (tmp_path / "out" / "models" / branch / "model.safetensors").read_bytes()
        assert held(hub, "lab/both", branch=branch)["model.safetensors"] == stored
        assert num_commits(hub, "lab/both", branch=branch) == 2, "after the first epoch and at the end"


def test_what_could_never_be_pushed_is_said_before_training(hub: HubServer, client: Client, tmp_path: Path) -> None:
    settings = {"recipe": write(tmp_path, "0"), "folder": str(tmp_path / "out"), "repo_id": "lab/never"}
    assert "may only read" in str(client("train", token=READER, **settings).error)
    assert "there is none" in str(client("train", token=None, **settings).error)
    assert not (tmp_path / "out" / "cells").exists()
