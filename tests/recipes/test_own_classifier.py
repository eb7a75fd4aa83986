"""The table about one's own classifier: the README's is that of the stored results, and a run gives one like it."""

import torch
from recipe_scripts import RECIPES, load

from hf_warmup.data.images import Images
from hf_warmup.records.files import read_json


def test_readme_quotes_the_stored_results() -> None:
    module = load("certified/own_classifier.py")
    results = read_json(RECIPES / "certified" / "own_classifier_digits.json")
    assert module.table(results) in (RECIPES / "README.md").read_text()
    for row in results["rows"]:
        others = [each["num_verified"] for each in results["rows"] if each["eps"] == row["eps"]]
        assert row["method"] != "cascade" or row["num_verified"] >= max(others)


def test_a_small_run_gives_a_table() -> None:
    module = load("certified/own_classifier.py")
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.arange(20) % 10, 256)
    model = module.trained(images, 1)
    rows = module.measured(model, Images(pixels[:4], torch.arange(4), 256), ["1/1000"])
    assert [row["method"] for row in rows] == ["ibp", "crown-ibp", "crown", "alpha-crown", "cascade"]
    assert "| 1/1000 |" in module.table({"rows": rows})
