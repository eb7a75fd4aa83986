"""Attacks on what linear bounds prove: `python recipes/certified/attack_proofs.py [--tries N] [--json FILE]`.

Trains the network of own_classifier.py on the digits, proves its test images by the cascade, and attacks the images of
each stage that goes beyond intervals, at the radius of the proof, with the network in float64: half of the tries are
projected gradient descent from random starts, half are random corners of the box. A proof that breaks is a fault.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import own_classifier
import torch
from torch import Tensor, nn

from hf_warmup import certify
from hf_warmup.certified import parse_eps, pgd
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import load_images
from hf_warmup.records.provenance import commit


# CROWN-IBP proves images at the first, CROWN at each, alpha-CROWN at the last.
RADII = ["1/32", "1/16", "5/64"]
STEPS = 10


def corners(model: nn.Module, image: Tensor, label: int, eps: float, tries: int, generator: torch.Generator) -> int:
    """How many random corners of an image's box are misclassified."""
    signs = torch.randint(0, 2, (tries, *image.shape), generator=generator, dtype=torch.float64) * 2 - 1
    return int((model((image + eps * signs).clamp(0, 1)).argmax(1) != label).sum())


def descents(model: nn.Module, image: Tensor, label: int, eps: float, tries: int, generator: torch.Generator) -> int:
    """How many descents from random starts end at a misclassified point."""
    many, labels = image.expand(tries, *image.shape), torch.full((tries,), label)
    return int(pgd(model, many, labels, eps, steps=STEPS, generator=generator).broken.sum())


def attacked(model: nn.Module, pixels: Tensor, labels: Tensor, eps: str, tries: int) -> list[dict[str, Any]]:
    """Images, tries and successes at a radius, of each stage that goes beyond intervals."""
    found = certify(model, pixels, labels, eps=eps)
    exact, generator, rows = copy.deepcopy(model).double(), torch.Generator().manual_seed(0), []
    for stage in sorted({stage for stage in found.method if stage not in (None, "ibp")}):
        chosen = [index for index, one in enumerate(found.method) if one == stage]
        each, broken = -(-tries // (2 * len(chosen))), 0
        with torch.no_grad():
            for index in chosen:
                image, label = pixels[index].double(), int(labels[index])
                for attack in (corners, descents):
                    broken += attack(exact, image, label, parse_eps(eps), each, generator)
        rows.append(
            {"eps": eps, "stage": stage, "images": len(chosen), "tries": 2 * each * len(chosen), "broken": broken}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Train, prove, attack, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100_000, help="on the images of a stage at a radius")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = load_images(DataConfig(name="digits", mode="L"))
    model = own_classifier.trained(data.train, own_classifier.EPOCHS["digits"])
    batch = own_classifier.batch(data.test, range(len(data.test)))
    rows = []
    for eps in RADII:
        rows += attacked(model, *batch, eps, options.tries)
    if options.json:
        options.json.write_text(json.dumps({"commit": commit(), "steps": STEPS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
