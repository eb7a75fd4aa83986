"""Attacks on what linear bounds prove: `python recipes/certified/attack_proofs.py [--tries N] [--json FILE]`.

Trains the network of own_classifier.py on the digits, proves its test images by the cascade, and attacks those that
linear bounds alone prove, at the radius of the proof, with the network in float64: half of the tries are
projected gradient descent from random starts, half are random corners of the box. A proof that breaks is a fault.
"""

import argparse
import copy
import json
from collections import Counter
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


RADII = ["1/32", "1/16"]
STEPS = 10


def corners(model: nn.Module, image: Tensor, label: int, eps: float, tries: int, generator: torch.Generator) -> int:
    """How many random corners of an image's box are misclassified."""
    signs = torch.randint(0, 2, (tries, *image.shape), generator=generator, dtype=torch.float64) * 2 - 1
    return int((model((image + eps * signs).clamp(0, 1)).argmax(1) != label).sum())


def descents(model: nn.Module, image: Tensor, label: int, eps: float, tries: int, generator: torch.Generator) -> int:
    """How many descents from random starts end at a misclassified point."""
    many, labels = image.expand(tries, *image.shape), torch.full((tries,), label)
    return int(pgd(model, many, labels, eps, steps=STEPS, generator=generator).broken.sum())


def attacked(model: nn.Module, pixels: Tensor, labels: Tensor, eps: str, tries: int) -> dict[str, Any]:
    """Tries and successes at a radius, over all images that linear bounds prove; and the images by stage."""
    found = certify(model, pixels, labels, eps=eps)
    chosen = [index for index, stage in enumerate(found.method) if stage not in (None, "ibp")]
    each = -(-tries // (2 * len(chosen)))
    exact, generator, broken = copy.deepcopy(model).double(), torch.Generator().manual_seed(0), 0
    with torch.no_grad():
        for index in chosen:
            image, label = pixels[index].double(), int(labels[index])
            for attack in (corners, descents):
                broken += attack(exact, image, label, parse_eps(eps), each, generator)
    stages = Counter(stage for stage in found.method if stage is not None)
    return {"eps": eps, "images": dict(stages), "tries": 2 * each * len(chosen), "broken": broken}


def main() -> None:
    """Train, prove, attack, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=60_000, help="at each radius")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = load_images(DataConfig(name="digits", mode="L"))
    model = own_classifier.trained(data.train, own_classifier.EPOCHS["digits"])
    batch = own_classifier.batch(data.test, range(len(data.test)))
    rows = []
    for eps in RADII:
        rows.append(attacked(model, *batch, eps, options.tries))
        print(rows[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps({"commit": commit(), "steps": STEPS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
