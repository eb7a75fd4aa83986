"""The benchmark of the certified step measures what it says: its operations are the papers', and it never waits."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


FOLDER = Path(__file__).parents[2] / "recipes" / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import certified_step

    yield certified_step
    for name in ("certified_step", "measuring", "peers"):
        sys.modules.pop(name, None)


def test_certified_step_is_three_plain_ones_in_operations(benchmark: Any) -> None:
    count = {
        name: benchmark.measuring.operations(benchmark.make_step(name, 2, CPU)) / 2
        for name in (benchmark.PLAIN, benchmark.TABLE, benchmark.FAST)
    }
    # 150.7 million multiplications and additions forward, and twice that backward, but for the images' gradient.
    assert count[benchmark.PLAIN] == pytest.approx(0.900e9, rel=0.01)
    assert count[benchmark.TABLE] == pytest.approx(3 * count[benchmark.PLAIN], rel=0.01)
    # The counter does not see two of the large layer's products, which are added in place.
    unseen = 2 * 2 * 32768 * 512
    assert count[benchmark.FAST] + unseen == pytest.approx(count[benchmark.TABLE], rel=0.01)


@pytest.mark.parametrize("variant", ["plain training step", "fast", "fast, no regularizers"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_step_reads_nothing_from_the_device(
    benchmark: Any, variant: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(part in str(func) for part in ("_local_scalar_dense", "nonzero", "aten.equal", "masked_select")):
                found.append(str(func))
            return func(*args, **(kwargs or {}))

    found: list[str] = []
    # Labels are looked at on a CPU only, where nobody waits for them.
    monkeypatch.setattr("hf_warmup.certified.objectives.losses.check_labels", lambda *_: None)
    step = benchmark.make_step(variant, 2, CPU, share=share)
    with Reads():
        step()
    assert found == []


def test_peak_memory_is_that_of_the_step(benchmark: Any) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell")
    size = 16 * 2**20
    found = benchmark.measuring.peak_mebibytes(lambda: torch.ones(size).sum(), CPU)
    assert found == pytest.approx(64, rel=0.25)


@pytest.mark.parametrize("record", ["linear_bounds.json", "linear_bounds_large.json"])
def test_readme_quotes_the_race_of_linear_bounds(record: str) -> None:
    found = json.loads((FOLDER / "results" / record).read_text())
    lines = (FOLDER.parent / "README.md").read_text().splitlines()
    for name, row in found["tasks"].items():
        if "margins" in row:
            torch.testing.assert_close(*map(torch.tensor, row["margins"].values()), rtol=1e-5, atol=1e-6)
        else:
            assert row["largest_difference"] < 1e-9
        start = "| " + name.replace(" step", " training step") + ","
        told = next(line for line in lines if line.startswith(start)).strip("| ").split(" | ")[1:]
        medians = [statistics.median(row["seconds"][who]) for who in ("ours", "auto_LiRPA")]
        peaks = row["peak_mebibytes"].values()
        assert told == [f"{medians[0] / medians[1]:.2f}", *(str(round(peak)) for peak in peaks)]


def test_intervals_without_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raced against the intervals as they are does the same arithmetic."""
    monkeypatch.syspath_prepend(FOLDER)
    import linear_bounds

    steps = linear_bounds.by_intervals(linear_bounds.SMALL, 2)
    grads = []
    for step in steps.values():
        step()
        (model,) = (
            c.cell_contents for c in steps["as it is"].__closure__ if isinstance(c.cell_contents, torch.nn.Module)
        )
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for name in ("linear_bounds", "measuring", "peers"):
        sys.modules.pop(name, None)
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))
