"""What to expect of one's own classifier: `python recipes/certified/own_classifier.py [--data NAME] [--table]`.

Trains a small convolutional network as anybody would, without a thought of proofs, and proves what it can of the test
images by each method of `hf_warmup.certify`. Prints a table in Markdown and writes `own_classifier_NAME.json` beside
this file; `--table` prints the table of a stored file. NAME is digits, mnist or cifar10: of MNIST 30 drawn images, of
CIFAR-10 6; `--folder` names a copy of them. On CIFAR-10 the network is a ResNet of transformers.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification

from hf_warmup import certify
from hf_warmup.certified.cascade import METHODS
from hf_warmup.data.config import DataConfig
from hf_warmup.data.images import Images, load_images
from hf_warmup.records.files import read_json, write_json
from hf_warmup.records.provenance import commit, hardware, versions


HERE = Path(__file__).parent
SEED = 0
RADII = {
    "digits": ["1/64", "1/32", "1/16"],
    "mnist": ["1/100", "1/50", "1/20"],
    "cifar10": ["1/510", "1/255"],
}
EPOCHS = {"digits": 20, "mnist": 2, "cifar10": 3}
NAMES = {"digits": "digits", "mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
EXAMPLES = {"digits": None, "mnist": 30, "cifar10": 6}


class Residual(nn.Module):
    """transformers' ResNet of 5 convolutions, with the normalization of its images."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        self.resnet = ResNetForImageClassification(ResNetConfig(num_labels=10, **sizes))

    def forward(self, pixel_values: Any) -> Any:
        """Logits."""
        return self.resnet((pixel_values - 0.45) / 0.25).logits


def network(channels: int, size: int) -> nn.Module:
    """For 10 classes: of gray images two convolutions and two dense layers with ReLU, of others a ResNet."""
    if channels != 1:
        return Residual()
    # CROWN's time grows with the square of the neurons: MNIST's images are halved twice.
    stride = 1 if size < 16 else 2
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (size // 2 // stride) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def batch(images: Images, chosen: Any) -> tuple[Tensor, Tensor]:
    """Pixels and labels of some images."""
    found = images.__getitems__(chosen)
    return found["pixel_values"], found["labels"]


def trained(images: Images, epochs: int) -> nn.Module:
    """A network after so many epochs of Adam at 1e-3 with cross-entropy alone."""
    torch.manual_seed(SEED)
    model = network(*images.images.shape[1:3])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            pixels, labels = batch(images, chosen)
            optimizer.zero_grad()
            F.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
    return model.eval()


def measured(model: nn.Module, images: Images, radii: list[str]) -> list[dict[str, Any]]:
    """Images proven and seconds, of each radius and method."""
    pixels, labels = batch(images, range(len(images)))
    rows = []
    for eps in radii:
        for method in METHODS:
            start = time.perf_counter()
            found = certify(model, pixels, labels, eps=eps, method=method)
            seconds = time.perf_counter() - start
            assert found.predictions is not None
            assert found.falsified is not None
            right = found.predictions == labels
            rows.append(
                {
                    "eps": eps,
                    "method": method,
                    "num_examples": len(labels),
                    "num_right": int(right.sum()),
                    "num_verified": int(found.verified.sum()),
                    "num_falsified": int((found.falsified & right).sum()) if method == "cascade" else None,
                    "seconds_per_image": seconds / len(labels),
                    "stopped": found.stopped,
                }
            )
            print(rows[-1], flush=True)
    return rows


def table(results: dict[str, Any]) -> str:
    """A line for each radius; cells say images proven and milliseconds an image."""
    rows = results["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        f"| eps | right | {' | '.join(methods)} | counterexample | unknown |",
        f"|---|{'---|' * (len(methods) + 3)}",
    ]
    for eps in dict.fromkeys(row["eps"] for row in rows):
        of = {row["method"]: row for row in rows if row["eps"] == eps}
        cells = [f"{row['num_verified']} ({1000 * row['seconds_per_image']:.1f} ms)" for row in of.values()]
        whole = of["cascade"]
        unknown = whole["num_right"] - whole["num_verified"] - whole["num_falsified"]
        right = f"{whole['num_right']} of {whole['num_examples']}"
        lines.append(f"| {eps} | {right} | {' | '.join(cells)} | {whole['num_falsified']} | {unknown} |")
    return "\n".join(lines)


def main() -> None:
    """Train, prove, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(RADII), default="digits")
    parser.add_argument("--folder", help="a copy of the data set; the Hub's by default")
    parser.add_argument("--table", action="store_true", help="print the table of what is stored")
    options = parser.parse_args()
    path = HERE / f"own_classifier_{options.data}.json"
    if not options.table:
        name = options.data
        config = DataConfig(
            name=NAMES[name],
            folder=options.folder,
            mode="RGB" if name == "cifar10" else "L",
            test_examples=EXAMPLES[name],
        )
        data = load_images(config)
        rows = measured(trained(data.train, EPOCHS[name]), data.test, RADII[name])
        about = {"commit": commit(), "hardware": hardware(), "threads": torch.get_num_threads()}
        about |= {"versions": versions(), "seed": SEED, "data": name}
        write_json(path, {**about, "rows": rows})
    print(table(read_json(path)))


if __name__ == "__main__":
    main()
