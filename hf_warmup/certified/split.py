"""A classifier certified on a split: answers, attack, radii and verdicts, block by block, and the documents of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.certified.blocks import Blocks, folder_of_blocks
from hf_warmup.certified.cascade import Blockwise, certify_in_blocks
from hf_warmup.certified.certificate import (
    attack_document,
    images_digest,
    make_document,
    radii_of,
    verdicts_document,
)
from hf_warmup.certified.consistency import logits_of
from hf_warmup.certified.evaluation import assess
from hf_warmup.certified.staged import evidence_of, staged_document
from hf_warmup.certified.verifier import Verifier, batch_of
from hf_warmup.data.images import Images
from hf_warmup.models.factory import code_digests, state_digest
from hf_warmup.models.source import ModelSource
from hf_warmup.records.files import Record, read_json, write_json
from hf_warmup.records.provenance import sources_digest, versions
from hf_warmup.training.accelerator import decide
from hf_warmup.training.precision import proof_arithmetic


@dataclass(frozen=True)
class Claim:
    """What is to be certified, beside the model and the images themselves.

    Attributes:
        source: where the model is from.
        data, split: what the images are from.
        eps: radius, such as "8/255".
        largest: the largest radius tried for each image.
        attack: whose outcome stands beside what is proven.
        radius_examples: of so many images, drawn by a fixed seed, radii are looked for; of all for None.
    """

    source: ModelSource
    data: str
    split: str
    eps: str
    largest: float
    attack: PgdConfig
    radius_examples: int | None = None


@dataclass(frozen=True)
class Results:
    """The documents of a certificate, and the files beside it by their names."""

    certificate: Record
    attack: Record
    verdicts: Record
    files: Mapping[str, bytes]


def certify_split(claim: Claim, model: nn.Module, images: Images, work: Blockwise) -> Results:
    """Everything that is found of a model on a split; the same on all processes that divide the blocks.

    Args:
        claim: about what.
        model: in eval mode, on the device that computes.
        images: the split.
        work: how, by whom, and what is told of it.

    Raises:
        ValueError, UnsupportedOperation: as `certify`.
        RuntimeError: if the attack breaks an image that is proven, which would mean a wrong bound.
    """
    eps, device = claim.eps, next(model.parameters()).device
    options: Any = {"batch_size": work.batch_size, "blocks": work.blocks, "progress": work.progress}
    batch = {name: part.to(device) for name, part in images.__getitems__(range(len(images))).items()}
    whole = certify_in_blocks(model, batch["pixel_values"], batch["labels"], eps, work)
    found = assess(model, images, eps, attack=claim.attack, proven=whole.verified, **options)
    radii = radii_of(model, images, claim.largest, examples=claim.radius_examples, **options)
    document = make_document(claim.source, claim.data, claim.split, eps, images, found, radii)
    verdicts = verdicts_document(document, work.method, whole)
    files = evidence_of(whole)
    if work.method != "ibp":
        document = staged_document(document, work.method, whole, files)
    return Results(document, attack_document(eps, found, claim.attack), verdicts, files)


def kept_work(
    claim: Claim, model: nn.Module, images: Images, out: Path, work: Blockwise, *, batch_size: int | None
) -> Blockwise:
    """The same work by all processes of the group, kept in a folder of results.

    Blocks stand apart for each model, images and options; what an earlier start of the same has left is taken.

    Args:
        claim, model, images: as `certify_split`.
        out: the folder of results.
        work: its blocks and batch size do not count.
        batch_size: images at once; as many as fit for None.
    """
    folder = folder_of_blocks(out, _facts(claim, model, images, work, batch_size))

    def chosen() -> tuple[Path, int]:
        if batch_size is not None:
            return folder, batch_size
        path = folder / "batch_size.json"
        if not path.exists():
            image = images.__getitems__([0])["pixel_values"].to(next(model.parameters()).device)
            # Another start may find another amount of memory, and must take the same batches.
            write_json(path, batch_of(Verifier(model), image, "auto"))
        return folder, int(read_json(path))

    folder, size = decide(chosen)
    return replace(work, batch_size=size, blocks=Blocks(folder, shared=True))


def _facts(claim: Claim, model: nn.Module, images: Images, work: Blockwise, batch_size: int | None) -> Record:
    """All that decides what is found."""
    parameter = next(model.parameters())
    try:
        with torch.no_grad(), proof_arithmetic(parameter.device):
            few = images.__getitems__(range(min(2, len(images))))["pixel_values"]
            logits = logits_of(model, few.to(parameter)).double().tolist()
    except Exception:  # whatever a model may raise: `certify` says what is wrong with it
        logits = []
    return {
        "weights": state_digest(model),
        # What the weights do not say of the model: its layers, its settings or code, and what they compute.
        "model": repr(model),
        "source": {**claim.source.settings_sha256, **code_digests(claim.source.folder)},
        "logits": json.dumps(logits),
        "images": images_digest(images),
        "labels": images.labels.tolist(),
        "eps": [claim.eps, claim.largest],
        "attack": claim.attack.model_dump(),
        "radius_examples": claim.radius_examples,
        "method": work.method,
        "batch_size": batch_size,
        "device": parameter.device.type,
        "versions": versions(),
        "code": sources_digest(),
    }
