"""A page to play with: a digit, its answer, the radius within which it is proven, and an attack on both sides of that.

    pip install -e ../.. -r requirements.txt && MODEL=../../model_cards/cnn-small-mnist-eps0.1 python app.py

MODEL is a folder or a repository on the Hub. What is shown comes from `certify` and `pgd`; nothing is prepared.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

import hf_warmup  # noqa: F401  (the model's class is known by it)
from hf_warmup import certified_radius, certify
from hf_warmup.certified import pgd


LARGEST = 0.5
# What the cascade may take: so many halvings of the way to the largest radius, so many seconds for each.
HALVINGS, SECONDS = 5, 1.5
# Test images of MNIST (Yann LeCun, Corinna Cortes; CC BY-SA 3.0): number in the test split, class.
IMAGES = sorted((Path(__file__).parent / "images").glob("*.png"))


@dataclass(frozen=True)
class Findings:
    """What the page says of one image.

    Attributes:
        answer: the model's class.
        radius: a radius within which the answer is proven, 0 where none is.
        stages: the verifiers that proved it, from the tightest radius to the widest.
        attacked: the image under the attack at the slider's radius, (1, C, H, W).
        attacked_answer: the model's class there.
    """

    answer: int
    radius: float
    stages: tuple[str, ...]
    attacked: Tensor
    attacked_answer: int


def load_model(name: str) -> nn.Module:
    """The classifier of a folder or of a repository on the Hub."""
    return AutoModelForImageClassification.from_pretrained(name, trust_remote_code=False).eval()


def to_pixels(picture: Image.Image, size: int) -> Tensor | None:
    """A drawing as the training images are: white on black, scaled to 5/7 of the image, its weight in the middle.

    Args:
        picture: any size and mode; dark strokes on a bright ground or the other way round.
        size: height and width of the model's images.

    Returns:
        (1, 1, size, size) in [0, 1]; None for an empty picture.
    """
    gray = picture.convert("L")
    if np.asarray(gray).mean() > 127:
        gray = ImageOps.invert(gray)
    box = gray.point(lambda level: 255 * (level > 40)).getbbox()
    if box is None:
        return None
    drawn = gray.crop(box)
    inner = round(size * 5 / 7)
    scale = inner / max(drawn.size)
    drawn = drawn.resize([max(1, round(side * scale)) for side in drawn.size], Image.Resampling.LANCZOS)
    weight = np.asarray(drawn, dtype=float)
    rows, columns = np.indices(weight.shape)
    middle = [(index * weight).sum() / weight.sum() for index in (rows, columns)]
    top, left = (min(max(0, round(size / 2 - at)), size - side) for at, side in zip(middle, weight.shape, strict=True))
    placed = np.zeros((size, size), dtype=np.float32)
    placed[top : top + weight.shape[0], left : left + weight.shape[1]] = weight / 255
    return torch.from_numpy(placed)[None, None]


def read_image(path: Path) -> Tensor:
    """A stored image of the data set, as it is: (1, 1, H, W) in [0, 1]."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32) / 255)[None, None]


def proven_radius(model: nn.Module, pixels: Tensor, answer: int) -> tuple[float, tuple[str, ...]]:
    """A radius that is proven, and the stages of the cascade that proved it on the way.

    Interval bounds find the first one in a moment. The cascade then tries wider ones, each for a limited time.
    """
    label = torch.tensor([answer])
    low = float(certified_radius(model, pixels, label, eps_max=LARGEST))
    high, stages = LARGEST, ["ibp"] if low else []
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = certify(model, pixels, label, eps=middle, time_limit=SECONDS)
        if bool(found.verified):
            low, stages = middle, [*stages, str(found.method[0])]
        else:
            high = middle
    return low, tuple(dict.fromkeys(stages))


@torch.no_grad()
def look_at(model: nn.Module, pixels: Tensor, eps: float) -> Findings:
    """Answer, prove and attack one image."""
    answer = int(model(pixels).logits.argmax())
    radius, stages = proven_radius(model, pixels, answer)
    attacked = attack(model, pixels, answer, eps)
    return Findings(answer, radius, stages, attacked, int(model(attacked).logits.argmax()))


def attack(model: nn.Module, pixels: Tensor, answer: int, eps: float) -> Tensor:
    """The image after projected gradient descent within `eps`."""
    generator = torch.Generator().manual_seed(0)
    return pgd(model, pixels, torch.tensor([answer]), eps, steps=50, restarts=3, generator=generator).pixel_values


def sentence(found: Findings, eps: float) -> str:
    """The findings in plain words."""
    inside = eps <= found.radius
    changed = found.attacked_answer != found.answer
    proof = (
        f"No change of at most {found.radius:.3f} in each pixel changes it: proven."
        if found.radius > 0
        else "Nothing is proven about it."
    )
    words = f"The answer is {found.answer}. {proof} An attack at {eps:.3f} "
    if changed:
        return words + f"makes the model say {found.attacked_answer}."
    return words + (
        "fails, as it must: the radius is inside the proof." if inside else "fails too, but that proves nothing."
    )


def as_picture(pixels: Tensor) -> Image.Image:
    """Eight times as large, so that single pixels are seen."""
    gray = Image.fromarray((255 * pixels[0, 0]).round().to(torch.uint8).numpy())
    return gray.resize((gray.width * 8, gray.height * 8), Image.Resampling.NEAREST)


def make_page(model: nn.Module) -> Any:
    """The page, as a Gradio application."""
    import gradio

    size = int(model.config.image_size)

    def respond(pixels: Tensor | None, eps: float) -> tuple[str, Image.Image | None, Image.Image | None]:
        if pixels is None:
            return "Draw a digit, or choose an image below.", None, None
        found = look_at(model, pixels, eps)
        return sentence(found, eps), as_picture(pixels), as_picture(found.attacked)

    def drawn(drawing: dict[str, Any] | None, eps: float) -> tuple[str, Image.Image | None, Image.Image | None]:
        picture = drawing and drawing.get("composite")
        # Strokes lie on a transparent ground.
        ground = picture and Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        return respond(to_pixels(ground, size) if ground else None, eps)

    def chosen(eps: float, event: gradio.SelectData) -> tuple[str, Image.Image | None, Image.Image | None]:
        return respond(read_image(IMAGES[event.index]), eps)

    with gradio.Blocks(title="Certified digits") as page:
        gradio.Markdown(
            "# Certified digits\nDraw a digit. The model answers, and proves how far every pixel may move before its "
            "answer could change. Then attack it inside and outside of that radius."
        )
        with gradio.Row():
            brush = gradio.Brush(default_size=22, colors=["#000000"], color_mode="fixed")
            drawing = gradio.Sketchpad(
                type="pil", label="Draw here", canvas_size=(280, 280), brush=brush, layers=False
            )
            seen = gradio.Image(label="What the model sees", height=280)
            attacked = gradio.Image(label="The same under attack", height=280)
        eps = gradio.Slider(0.0, LARGEST, value=0.1, step=0.005, label="Radius of the attack")
        words = gradio.Textbox(label="What was found", elem_id="found", lines=2)
        gradio.Button("Look", variant="primary", elem_id="look").click(drawn, [drawing, eps], [words, seen, attacked])
        eps.release(drawn, [drawing, eps], [words, seen, attacked])
        images = gradio.Gallery(
            list(map(str, IMAGES)), label="Or take a test image", columns=len(IMAGES), height=150, object_fit="contain"
        )
        images.select(chosen, [eps], [words, seen, attacked])
    return page


if __name__ == "__main__":
    make_page(load_model(os.environ.get("MODEL", "cnn-small-mnist-eps0.1"))).launch()
