"""What programs of theory store says what it shows, and documents quote it."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from pictures import colors_of
from theory_programs import PROGRAMS, THEORY, common, load, networks, quartic, warmup_gap

import hf_warmup


LENGTHS = {
    "quartic": (3, 5, 8),
    "warmup_gap": (20, 40, 80),
    "stochastic_gap": (20, 30, 40, 60),
    "river_valley": (5, 10, 20),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_writes_its_two_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load(name)
    runs = {"runs": 16} if name == "stochastic_gap" else {}
    study = partial(module.study, lengths=LENGTHS[name], **runs)
    common.run(module.__file__, study, module.describe, module.draw, ["--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plot.png", "results.json"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert capsys.readouterr().out == results["sentence"] + "\n"
    assert results["config"]["lengths"] == list(LENGTHS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stored_sentence_is_of_the_stored_numbers(name: str) -> None:
    module = load(name)
    results = json.loads((THEORY / name / "results.json").read_text())
    assert results["sentence"] == module.describe(results)
    assert results["config"]["lengths"] == list(module.LENGTHS)
    drawn = {to_hex(line.get_color()).upper() for axes in module.draw(results).axes for line in axes.lines}
    assert len(drawn) >= 3
    assert drawn <= colors_of(THEORY / name / "plot.png"), "every line is in the stored picture"
    assert (module.__doc__ or "").count(f"python recipes/theory/{name}.py") == 1


def stored(name: str) -> Any:
    return json.loads((THEORY / name / "results.json").read_text())


def test_stored_quartic_shows_the_power_law() -> None:
    results = stored("quartic")
    assert results["slope"]["slope"] == pytest.approx(-2, abs=0.05)
    assert all(row["best"]["f"] >= row["bound"] == quartic.lower_bound(row["T"]) for row in results["rows"])
    updates = results["rule"]["updates_to_goal"]
    assert 16 * (2 / 3) ** (4 * updates) <= results["goal"]["f"] < 16 * (2 / 3) ** (4 * updates - 4)


def test_stored_warmup_gap_is_of_order_length() -> None:
    results = stored("warmup_gap")
    assert results["slopes"]["rule"]["slope"] == pytest.approx(1, abs=0.05)
    assert results["slopes"]["linear_warmup"]["slope"] == pytest.approx(1, abs=0.05)
    for row in results["rows"]:
        assert row["bound"] <= row["best"]["f"] <= 1.1 * row["bound"]
        assert row["rule"]["f"] < row["linear_warmup"]["f"] < row["best"]["f"]
    small = warmup_gap.compare(200)
    [row] = [row for row in results["rows"] if row["T"] == 200]
    assert row["rule"]["f"] == pytest.approx(small["rule"]["f"], rel=1e-6)
    assert row["best"]["f"] == pytest.approx(small["best"]["f"], rel=1e-6)


def test_stored_stochastic_gap_is_near_the_root_of_the_length() -> None:
    results = stored("stochastic_gap")
    assert results["slopes"]["rule"]["slope"] == pytest.approx(0.5, abs=0.1)
    for row in results["rows"]:
        assert row["best"]["f"] + 3 * row["best"]["standard_error"] >= results["floor"]
        assert row["best"]["n"] == row["rule"]["n"] == row["tuned_rule"]["n"] == results["config"]["runs"]


def test_stored_river_valley_has_both_outcomes() -> None:
    rows = {name: stored("river_valley")["rivers"][name]["rows"] for name in ("open", "closed")}
    for row in rows["open"]:
        assert row["best"]["f"] <= row["constant"]["f"] < row["tuned_rule"]["f"] <= row["rule"]["f"]
    early, late = rows["closed"][-3:-1]
    assert early["best"]["f"] < early["rule"]["f"]
    assert late["rule"]["f"] < late["best"]["f"]


def test_networks_are_measured_and_described() -> None:
    def make() -> tuple[torch.nn.Module, Any]:
        data = [{"pixels": torch.randn(4), "labels": torch.tensor(i % 2)} for i in range(64)]
        return Classifier(), hf_warmup.shuffled_loader(data, batch_size=8, seed=0)  # type: ignore[arg-type]

    run = networks.measure("a line", make, "SGD", updates=13 * networks.EVERY)
    assert len(run["measurements"]["step"]) == 13
    assert networks.sentence(run).startswith("a line, SGD: as the loss fell from")


class Classifier(torch.nn.Module):
    """A linear classifier as transformers' models return their loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> Any:
        return SimpleNamespace(loss=torch.nn.functional.cross_entropy(self.layer(pixels), labels))


@pytest.mark.parametrize("folder", sorted(path.parent for path in THEORY.glob("*/results.json")), ids=lambda p: p.name)
def test_documents_quote_the_results(folder: Path) -> None:
    sentence = json.loads((folder / "results.json").read_text())["sentence"]
    assert sentence in (THEORY / "README.md").read_text()
    assert (folder / "plot.png").exists()
    if folder.name == "networks":
        runs = json.loads((folder / "results.json").read_text())["runs"]
        assert " ".join(networks.sentence(run) for run in runs) == sentence
