"""The benchmark of the default study, on runs of a few updates."""

import sys
from pathlib import Path
from typing import Any

import pytest

from hf_warmup.records.files import read_json


FOLDER = Path(__file__).parents[2] / "recipes" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import default_study

    yield default_study
    sys.modules.pop("default_study", None)


def test_each_group_is_the_default_on_seeds_of_its_own(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = ("training.num_training_steps=4", "training.beta2=0.5", "training.batch_size=2", "plan={looks: [5]}")
    monkeypatch.setattr(benchmark, "WITHOUT_PICTURES", (*short, "model.config.num_hidden_layers=1"))
    monkeypatch.setattr(sys, "argv", ["default_study.py", "--out", str(tmp_path), "--groups", "1000"])
    benchmark.main()
    stored = read_json(tmp_path / "default_study.json")
    [group] = stored["groups"]
    assert (group["first_seed"], group["runs"]) == (1000, 15)
    assert {verdict["n"] for verdict in group["arms"].values()} == {5}
    seeds = {int(path.stem.rpartition("--")[2]) for path in (tmp_path / "1000" / "cells").iterdir()}
    assert seeds == set(range(1000, 1005))
