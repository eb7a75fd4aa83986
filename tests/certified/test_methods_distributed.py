"""Copies of a model on two processes learn by every method what one process learns from both batches."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_methods import ALL, make
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from hf_warmup.certified import CertifiedObjective


def _batch(rank: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rank)
    return {
        "pixel_values": torch.rand(8, 1, 6, 6, generator=generator, dtype=torch.float64),
        "labels": torch.arange(8) % 4,
    }


def _compare(rank: int, store: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for method in ALL:
        objective = CertifiedObjective(0.1, ramp=lambda step: 0.5, method=method)
        model, expected = make(), make()
        for other in (0, 1):
            torch.manual_seed(other)
            (objective(expected, _batch(other), 0)[0] / 2).backward()
        torch.manual_seed(rank)
        copies = DistributedDataParallel(model)
        objective(copies, _batch(rank), 0)[0].backward()
        for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_gradients_of_two_processes_are_the_mean_of_both(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    multiprocessing.spawn(_compare, (str(tmp_path / "store"),), nprocs=2)
