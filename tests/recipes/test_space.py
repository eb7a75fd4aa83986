"""The page to play with: drawings become images, radii are proven, attacks fail inside; a browser can use it."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from recipe_scripts import RECIPES, load

from hf_warmup import certify


CARD = RECIPES.parent / "model_cards" / "cnn-small-mnist-eps0.1"
app = load("space/app.py")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return app.load_model(str(CARD))


def one(ink: str = "black", ground: str = "white") -> Image.Image:
    """A drawn 1, off the middle."""
    picture = Image.new("RGB", (200, 160), ground)
    ImageDraw.Draw(picture).line([(150, 20), (140, 120)], fill=ink, width=14)
    return picture


def test_a_drawing_becomes_an_image_like_those_of_training() -> None:
    pixels = app.to_pixels(one(), 28)
    assert pixels.shape == (1, 1, 28, 28)
    assert (pixels.min(), pixels.max()) == (0, 1)
    rows, columns = pixels[0, 0].nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1).item() == 20
    weight = pixels[0, 0].numpy()
    middle = [(index * weight).sum() / weight.sum() for index in np.indices(weight.shape)]
    assert np.abs(np.array(middle) - 14).max() < 1
    torch.testing.assert_close(app.to_pixels(one("white", "black"), 28), pixels)
    assert app.to_pixels(Image.new("L", (50, 50)), 28) is None
    assert app.to_pixels(Image.new("RGBA", (50, 50), "white"), 28) is None


def test_inside_the_radius_the_attack_fails_and_far_outside_it_succeeds(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HALVINGS", 3)
    pixels = app.to_pixels(one(), 28)
    found = app.look_at(model, pixels, 0.1)
    assert (found.answer, found.attacked_answer) == (1, 1)
    assert found.radius > 0.1
    assert set(found.stages) <= {"ibp", "crown-ibp", "crown", "alpha-crown"}
    label = torch.tensor([1])
    assert certify(model, pixels, label, eps=found.radius).verified.all()
    assert "fails, as it must" in app.sentence(found, 0.1)
    attacked = app.attack(model, pixels, 1, 0.45)
    assert (attacked - pixels).abs().max() <= 0.45 + 1e-6
    answer = int(model(attacked).logits.argmax())
    assert answer != 1
    outside = app.Findings(1, found.radius, found.stages, attacked, answer)
    assert f"makes the model say {answer}" in app.sentence(outside, 0.45)


def test_test_images_are_those_of_the_data_set(model: torch.nn.Module) -> None:
    assert len(app.IMAGES) == 5
    for path in app.IMAGES:
        pixels = app.read_image(path)
        assert pixels.shape == (1, 1, 28, 28)
        assert int(model(pixels).logits.argmax()) == int(path.stem[-1])


def browser() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="needs Chromium or Chrome on PATH")
def test_the_page_draws_slides_and_tells(tmp_path: Path) -> None:
    """Through the DevTools protocol: draw a stroke, ask, read; a screenshot is left for whoever wants to look."""
    pytest.importorskip("gradio", reason="pip install gradio")
    websocket = pytest.importorskip("websocket", reason="pip install websocket-client")
    from devtools import Browser

    environment = {**os.environ, "MODEL": str(CARD), "GRADIO_SERVER_PORT": "7873", "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen([sys.executable, str(RECIPES / "space" / "app.py")], env=environment)
    try:
        wait_for("http://127.0.0.1:7873/")
        with Browser(str(browser()), tmp_path, websocket) as page:
            page.open("http://127.0.0.1:7873/")
            page.wait("document.querySelectorAll('canvas').length > 0")
            page.run("document.querySelector('button[aria-label=\"Brush\"]').click()")
            page.draw("canvas", [(0.5, 0.25), (0.5, 0.35), (0.5, 0.45), (0.5, 0.55), (0.5, 0.65)])
            page.run("document.querySelector('#look').click()")
            page.wait("document.querySelector('#found textarea').value.includes('The answer is')")
            words = page.run("document.querySelector('#found textarea').value")
            page.draw("input[type=range]", [(0.2, 0.5), (0.6, 0.5), (0.95, 0.5)])
            page.wait("document.querySelector('#found textarea').value.includes('makes the model say')")
            page.screenshot(Path(os.environ.get("SPACE_SCREENSHOT", tmp_path / "page.png")))
    finally:
        server.terminate()
        server.wait()
    assert "The answer is 1." in words
    assert "proven" in words


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
