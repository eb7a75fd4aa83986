"""The certificate of several stages: format 4, which says of each image what proved or refuted it, and its files.

What proves is stored where it is not found again by computing: alpha-CROWN's slopes. What refutes is stored as it is.
`hf_warmup.numpy_verifier.evidence` says what these files hold.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from hf_warmup.certified.verifier import Certificate
from hf_warmup.numpy_verifier.claims import STAGED, STAGES
from hf_warmup.numpy_verifier.evidence import COUNTEREXAMPLES, SLOPES
from hf_warmup.records.files import Record
from hf_warmup.statistics.proportions import clopper_pearson


def evidence_of(found: Certificate) -> dict[str, bytes]:
    """The files beside a certificate, by their names: points that end images, and slopes where there are some."""
    assert found.falsified is not None
    assert found.counterexamples is not None
    index, points = found.falsified.nonzero().flatten(), found.counterexamples
    files = {COUNTEREXAMPLES: points_file(points, index)}
    if found.slopes is not None:
        relus = {f"relu.{place}": part.contiguous() for place, part in enumerate(found.slopes.relus)}
        files[SLOPES] = save({"image": found.slopes.image, "rival": found.slopes.rival, **relus})
    return files


def points_file(points: Tensor, index: Tensor) -> bytes:
    """Points that end images, and the images' numbers. Safetensors beside a model would be taken for its weights."""
    content = io.BytesIO()
    np.savez_compressed(content, pixel_values=points.cpu().numpy(), index=index.cpu().numpy())
    return content.getvalue()


def staged_document(
    certificate: Record,
    method: str,
    found: Certificate,
    files: Mapping[str, bytes],
    told_by: Mapping[str, Mapping[str, list[int]]] | None = None,
) -> Record:
    """The certificate of a method with several stages.

    Args:
        certificate: what intervals alone prove of the same images, as `make_document` gives it.
        method: of `certify`, but "ibp".
        found: what it returned.
        files: from `evidence_of`.
        told_by: what programs of others say, see `hf_warmup.numpy_verifier.claims`.
    """
    assert found.falsified is not None
    assert found.predictions is not None
    labels, radii = certificate["images"]["label"], certificate["images"]["radius"]
    predictions, by, margins = found.predictions.tolist(), list(found.method), found.margin.tolist()
    eps = certificate["eps_value"]
    count, proven, falsified = len(labels), int(found.verified.sum()), int(found.falsified.sum())
    clean = sum(label == answer for label, answer in zip(labels, predictions, strict=True))
    stages: dict[str | None, Any] = {stage: by.count(stage) for stage in STAGES[method]}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {
        **certificate,
        "format": STAGED,
        "method": method,
        "verifier": found.verifier,
        "num_clean": clean,
        "num_verified": proven,
        "num_falsified": falsified,
        "num_unknown": count - proven - falsified,
        "num_verified_by": stages,
        "clean_accuracy": clean / count,
        "verified_accuracy": proven / count,
        "verified_interval": list(clopper_pearson(proven, count)),
        "slopes_sha256": digests.get(SLOPES),
        "counterexamples_sha256": digests[COUNTEREXAMPLES] if falsified else None,
        "told_by": {tool: dict(verdicts) for tool, verdicts in (told_by or {}).items()},
        "images": {
            "label": labels,
            "prediction": predictions,
            "verified": [int(stage is not None) for stage in by],
            "verified_by": by,
            "falsified": found.falsified.int().tolist(),
            "margin": [margin if stage == "ibp" else None for margin, stage in zip(margins, by, strict=True)],
            "radius": [
                radius if radius is None else _radius(radius, eps, stage) if label == answer else 0.0
                for radius, stage, label, answer in zip(radii, by, labels, predictions, strict=True)
            ],
        },
    }


def _radius(found: float, eps: float, stage: str | None) -> float:
    """A radius that intervals prove, on the side of eps that the stage says."""
    if stage == "ibp":
        return max(found, eps)
    return found if stage is not None else min(found, math.nextafter(eps, 0.0))
