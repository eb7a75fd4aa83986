"""The tables about one's own classifier: the README's are those of the stored results, and a run gives one like it."""

from pathlib import Path

import pytest
import torch
from recipe_scripts import RECIPES, load

from hf_warmup.data.images import Images
from hf_warmup.records.files import read_json


STORED = sorted((RECIPES / "certified").glob("own_classifier_*.json"))


def test_results_of_the_digits_are_stored() -> None:
    assert "own_classifier_digits.json" in [path.name for path in STORED]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_readme_quotes_the_stored_results(path: Path) -> None:
    module = load("certified/own_classifier.py")
    results = read_json(path)
    assert path.stem == f"own_classifier_{results['data']}"
    assert list(dict.fromkeys(row["eps"] for row in results["rows"])) == module.RADII[results["data"]]
    assert module.table(results) in (RECIPES / "README.md").read_text()
    for row in results["rows"]:
        others = [each["num_verified"] for each in results["rows"] if each["eps"] == row["eps"]]
        assert row["method"] != "cascade" or row["num_verified"] >= max(others)


def test_no_stored_attack_broke_a_proof() -> None:
    rows = read_json(RECIPES / "certified" / "attack_proofs.json")["rows"]
    assert [row["broken"] for row in rows] == [0] * len(rows)
    assert {row["stage"] for row in rows} == {"crown-ibp", "crown", "alpha-crown"}
    assert min(row["tries"] for row in rows) >= 100_000


def test_a_small_run_gives_a_table() -> None:
    module = load("certified/own_classifier.py")
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.arange(20) % 10, 256)
    model = module.trained(images, 1)
    rows = module.measured(model, Images(pixels[:4], torch.arange(4), 256), ["1/1000"])
    assert [row["method"] for row in rows] == ["ibp", "crown-ibp", "crown", "alpha-crown", "cascade"]
    assert "| 1/1000 |" in module.table({"rows": rows})


def test_attacks_on_proofs_are_counted_and_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RECIPES / "certified")
    module, own = load("certified/attack_proofs.py"), load("certified/own_classifier.py")
    torch.manual_seed(0)
    model = own.network(1, 8).eval()
    pixels = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        labels = model(pixels).argmax(1)
    found = module.attacked(model, pixels, labels, "1/100", 24)
    assert found
    for row in found:
        assert row["tries"] >= 24
        assert row["broken"] == 0
        assert row["stage"] in {"crown-ibp", "crown", "alpha-crown"}
    # Far beyond what is proven they succeed.
    exact, generator = model.double(), torch.Generator().manual_seed(0)
    image, label = pixels[0].double(), int(labels[0])
    assert module.descents(exact, image, label, 1.0, 4, generator) > 0
    assert module.corners(exact, image, label, 1.0, 40, generator) > 0
