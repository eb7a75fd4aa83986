"""The simulation of verdicts, small: error rates, coverage and power within bounds that a wrong rule would leave."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest


FOLDER = Path(__file__).parents[2] / "recipes" / "benchmarks"
REPLICATIONS = 4000
BOUND = 0.05 + 3 * math.sqrt(0.05 * 0.95 / REPLICATIONS)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import verdicts

    yield verdicts
    sys.modules.pop("verdicts", None)


def test_error_rates_hold_in_a_small_simulation(benchmark: Any) -> None:
    rng = benchmark.np.random.default_rng(5)
    for kind in ("normal", "steps 2", "examples"):
        for n in (3, 8, 40):
            found = benchmark.fixed(kind, n, REPLICATIONS, rng)
            assert max(found["false different"], found["false equivalent"]) <= BOUND
            assert found["coverage"] >= 1 - BOUND
        looks = benchmark.sequential(kind, benchmark.Plan(), REPLICATIONS, rng)
        assert 0.02 < looks["false different"] <= BOUND
        assert 0.02 < looks["false equivalent"] <= BOUND
        assert looks["equivalent at margin 1 sd"] > 0.99
    assert benchmark.unplanned(REPLICATIONS, rng) > 0.2
    assert benchmark.fixed("steps 0.5", 3, REPLICATIONS, rng)["false equivalent"] < 0.001
    assert benchmark.planned_power(0.0, 1.0, 5, 100, rng) > 0.8
