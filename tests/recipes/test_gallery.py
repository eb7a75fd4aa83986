"""The gallery: pictures show what the schedules and the committed results say, and are drawn anew pixel by pixel."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from recipe_scripts import RECIPES, load

from hf_warmup.report.plots import save_figure
from hf_warmup.schedules.tables import DECAYS, WARMUPS


FOLDER = RECIPES / "gallery"
draw = load("gallery/draw.py")


def test_every_decay_has_a_picture_and_every_warmup_a_panel() -> None:
    text = (FOLDER / "README.md").read_text()
    for decay in DECAYS:
        assert f"![{decay}]({decay}.png)" in text
        assert (FOLDER / f"{decay}.png").exists()
    assert set(draw.FORMULAS) == set(WARMUPS)


def test_curves_are_those_of_the_schedules() -> None:
    figure = draw.gallery("constant")
    by_title = {axes.get_title().splitlines()[0]: axes.lines[0].get_ydata() for axes in figure.axes}
    updates = np.arange(1, 1001)
    np.testing.assert_allclose(by_title["untuned_linear_warmup"], np.minimum(1, updates / 200))
    np.testing.assert_allclose(by_title["exponential_warmup"], 1 - np.exp(-updates / 200))


def test_the_overview_shows_committed_results() -> None:
    axes = Figure().subplots()
    results = json.loads((FOLDER.parent / "compare" / "digits_vit" / "results.json").read_text())
    draw.draw_verdicts(axes, results)
    verdicts = results["tasks"][0]["verdicts"]
    drawn = {tuple(line.get_xdata()) for line in axes.lines}
    for verdict in verdicts:
        assert tuple(100 * end for end in verdict["t_interval"]) in drawn
    axes = Figure().subplots()
    draw.draw_proofs(axes)
    for line in axes.lines:
        card = json.loads((FOLDER.parents[1] / "model_cards" / line.get_label() / "results.json").read_text())
        radii, shares = (np.asarray(each) for each in line.get_data())
        for point in card["radii"]["curve"]:
            dropped = np.searchsorted(radii, float(Fraction(point["eps"])))
            share = shares[dropped] / 100 if dropped < len(shares) else 0
            assert share == pytest.approx(point["share"], abs=1e-12)


@pytest.mark.parametrize("name", ["wsd"])
def test_pictures_are_drawn_anew(name: str, tmp_path: Path) -> None:
    with draw.matplotlib.rc_context(draw.STYLE):
        save_figure(draw.gallery(name), tmp_path / "new.png")
    new, old = (np.asarray(Image.open(path), dtype=float) for path in (tmp_path / "new.png", FOLDER / f"{name}.png"))
    assert new.shape == old.shape
    assert np.abs(new - old).mean() < 1
