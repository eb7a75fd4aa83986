"""The summary and the table of stages that `hf-warmup certify` prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hf_warmup.records.files import Record


if TYPE_CHECKING:
    from hf_warmup.certified.split import Results
    from hf_warmup.data.images import Images


@dataclass(frozen=True)
class Asked:
    """What a person asked `hf-warmup certify`, to be asked again.

    Attributes:
        model, data: its arguments.
        channels: of the images.
        options: of the data and the model, by their names; None for what was left out.
    """

    model: str
    data: str
    channels: int
    options: Mapping[str, object]


def summary(model: str, document: Record, attack: Record, verdicts: Record) -> list[str]:
    """What a person reads."""
    import numpy as np

    low, high = (100 * end for end in verdicts["verified_interval"])
    radii = np.array([radius for radius in document["images"]["radius"] if radius is not None])
    subset = f", subset {document['data']['subset']}" if "subset" in document["data"] else ""
    lines = [
        f"{model} on {document['num_examples']} images of {document['data']['name']}{subset}, "
        f"split {document['data']['split']}, eps {document['eps']}:",
        f"  clean accuracy     {100 * document['clean_accuracy']:6.2f} %",
        f"  accuracy under PGD {100 * attack['pgd_accuracy']:6.2f} %   (robust accuracy is at most this)",
        f"  verified accuracy  {100 * verdicts['verified_accuracy']:6.2f} %   (proven; 95 % interval of the "
        f"population {low:.2f} to {high:.2f})",
    ]
    if "ibp" in document.get("num_verified_by", {}):
        share = f"{100 * document['num_verified_by']['ibp'] / document['num_examples']:6.2f} %"
        lines.append(f"  by intervals alone {share}")
    some = "" if len(radii) == document["num_examples"] else f", of {len(radii)} images drawn by a fixed seed"
    radius = f"median {np.median(radii):.4g}, largest {radii.max():.4g}"
    return [*lines, f"  certified radius   {radius}   (by intervals{some}; the search ends at --largest-eps)"]


def by_stage(document: Record, verdicts: Record) -> list[str]:
    """A table of what each stage did, and what it left."""
    lines = ["", "  stage        images  verified  seconds an image"]
    for stage in verdicts["stages"]:
        seconds = "-" if stage["seconds_per_image"] is None else f"{stage['seconds_per_image']:.4f}"
        stopped = f"   stopped: out of {stage['stopped']}" if stage["stopped"] else ""
        verified = "" if stage["name"] == "pgd" else stage["num_verified"]
        lines.append(f"  {stage['name']:<12} {stage['num_images']:6} {verified:>9}  {seconds:>16}{stopped}")
    wrong = document["num_examples"] - document["num_clean"]
    lines.append(
        f"  verified {verdicts['num_verified']}, falsified {verdicts['num_falsified']}, unknown "
        f"{verdicts['num_unknown']} (neither). {wrong} images are answered wrongly; others falsified have "
        "a counterexample."
    )
    if verdicts["unrelaxed"]:
        names = ", ".join(verdicts["unrelaxed"])
        lines.append(f"  Without linear bounds, and so taken at their intervals, which are looser: {names}.")
    return [*lines, ""]


def advice(results: Results, asked: Asked) -> list[str]:
    """Where less than half of the right answers are proven: why, and two ways out as commands; else nothing."""
    document, verdicts, hit = results.certificate, results.verdicts, results.attack["broken"]
    images, found = document["images"], verdicts["images"]
    right = [
        i for i, (own, other) in enumerate(zip(images["label"], found["prediction"], strict=True)) if own == other
    ]
    proven = sum(found["verified_by"][place] is not None for place in right)
    if 2 * proven >= len(right):
        return []
    broken = sum(bool(hit[place] or found["falsified"][place]) for place in right)
    undecided, width = len(right) - proven - broken, verdicts["relative_width"]
    said = f"Of {len(right)} right answers {proven} are proven, an attack broke {broken}, {undecided} are open. "
    if broken > undecided:
        said += "No method proves what is broken: the model is not robust at this radius."
    elif width is None:
        said += "The bounds are not finite: this model was not trained for such bounds."
    else:
        said += (
            f"The bounds lose {width:.3g} times the answers' lead, on average, and less than 1 would prove an answer: "
            "this model was not trained for such bounds, or the method is too loose for it."
        )
    return [said, *_ways_out(document["eps"], verdicts["method"], asked)]


def _ways_out(eps: str, method: str, asked: Asked) -> list[str]:
    given = {name: str(value) for name, value in asked.options.items() if value is not None}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    again = ["hf-warmup", "certify", asked.model, asked.data, "--eps", eps, *options, "--method", "cascade"]
    own = [f"model={{factory: {asked.model}}}"] if ".py:" in asked.model else []
    named = {"test_split" if name == "split" else name: value for name, value in given.items()}
    data = {"name": asked.data, "mode": "L" if asked.channels == 1 else "RGB", **named}
    keys = [f"data.{name}={value}" for name, value in data.items() if name not in ("examples", "weights")]
    train = ["hf-warmup", "train", *own, *keys, f"eps={eps}"]
    what = "this network" if own else "a network of the package"
    return [
        *([] if method == "cascade" else [f"  Tighter bounds: {shlex.join(again)}"]),
        f"  Certified training of {what}: {shlex.join(train)}",
        f"  Of any network, in Python: hf_warmup.fit_certified(model, images, labels, eps={eps!r})",
    ]


def remarks(model: str, data: str, examples: object, images: Images | None = None) -> list[str]:
    """What a reader of the summary must know of the images."""
    from hf_warmup.data.digits import digits_split

    found = []
    if examples is not None:
        found.append(
            "The images were drawn from the split by a fixed seed; the interval is about the whole population."
        )
    if data == "digits" and not _trained_here(Path(model)):
        train, test = digits_split()
        early = int((test < len(train)).sum())
        found.append(
            f"The test split of the digits is this package's own: {early} of its {len(test)} images are among the "
            f"first {len(train):,} of sklearn's load_digits(). If the model was trained on those, these numbers are "
            "not of unseen images; hf_warmup.data.digits_split() gives the rows to train on."
        )
    found += [] if images is None else images.remarks
    if images is not None and images.processing is not None:
        _, channels, height, width = images.images.shape
        found.append(
            f"The model's image processor ({images.processing['image_processor_type']}) made the pictures fit: what "
            f"is proven is about its images of {channels} x {height} x {width}; certificate.json holds its settings."
        )
    return found


def _trained_here(model: Path) -> bool:
    """Whether a folder is a run's of a study on the digits, or a checkpoint that was packaged from one."""
    for path in (model / "training.yaml", model.resolve().parent.parent / "study.json"):
        try:
            # JSON is YAML as well.
            if yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["name"] == "digits":
                return True
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, IndexError):
            continue
    return False
