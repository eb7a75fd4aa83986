"""A classifier judged on a split: what it gets right, what is proven of it, and what an attack could break."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_warmup.certified import Verifier, parse_eps, pgd
from hf_warmup.certified.attacks import PgdConfig
from hf_warmup.data.images import Images
from hf_warmup.data.splits import drawn
from hf_warmup.records.files import Record
from hf_warmup.training.precision import float32_arithmetic


EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Assessment:
    """What was found, per image.

    Attributes:
        predictions: predicted class without perturbation, (N,).
        clean: whether that is the label, (N,).
        verified, margin: see `Certificate`, (N,).
        broken: whether the attack found a misclassified point, for the M <= N images that were attacked;
            None without an attack.
    """

    predictions: Tensor
    clean: Tensor
    verified: Tensor
    margin: Tensor
    broken: Tensor | None = None

    def accuracies(self) -> dict[str, float]:
        """Shares of the images; PGD's among those that were attacked."""
        shares = {"clean_accuracy": self.clean, "verified_accuracy": self.verified}
        if self.broken is not None:
            shares["pgd_accuracy"] = ~self.broken
        return {name: float(part.double().mean()) for name, part in shares.items()}

    def counts(self) -> Record:
        """How many images were verified, judged and attacked."""
        attacked = 0 if self.broken is None else len(self.broken)
        return {
            "num_verified": int(self.verified.sum()),
            "num_examples": len(self.verified),
            "num_attacked": attacked,
        }


@torch.no_grad()
@float32_arithmetic()
def assess(model: nn.Module, images: Images, eps: str, *, attack: PgdConfig | None = None) -> Assessment:
    """Judge a model at a radius; PGD on images drawn by a fixed seed if the attack is limited.

    Args:
        model: in eval mode, taking pixels in [0, 1].
        images: the split.
        eps: radius in pixel units, such as "8/255".
        attack: none by default.

    Raises:
        RuntimeError: if a verified image is broken, which would mean a wrong bound.
        ValueError, UnsupportedOperation: as `hf_warmup.certify`.
    """
    verifier, device = Verifier(model), next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    attacked = torch.zeros(len(images), dtype=torch.bool)
    attacked[drawn(len(images), 0 if attack is None else attack.examples)] = True
    parts: list[tuple[Tensor, ...]] = []
    broken: list[Tensor] = []
    for chosen in torch.split(torch.arange(len(images)), EVALUATION_BATCH):
        batch = {name: part.to(device) for name, part in images.__getitems__(chosen).items()}
        pixel_values, labels = batch["pixel_values"], batch["labels"]
        certificate = verifier.certify(pixel_values, labels, eps=eps)
        output = model(pixel_values)
        predictions = getattr(output, "logits", output).argmax(1)
        found = (predictions, predictions == labels, certificate.verified, certificate.margin)
        parts.append(tuple(part.cpu() for part in found))
        here = attacked[chosen]
        if attack is not None and bool(here.any()):
            on_device = here.to(device)
            points = (pixel_values[on_device], labels[on_device], parse_eps(eps))
            result = pgd(model, *points, steps=attack.steps, restarts=attack.restarts, generator=generator)
            doubtful = result.broken & certificate.verified[on_device]
            _check(verifier, result.pixel_values, points, doubtful, chosen[here])
            # What was proven and is no counterexample in float64 is an error of rounding of the attacked pass.
            broken.append((result.broken & ~doubtful).cpu())
    predictions, clean, verified, margin = (torch.cat(part) for part in zip(*parts, strict=True))
    return Assessment(predictions, clean, verified, margin, torch.cat(broken) if broken else None)


def _check(
    verifier: Verifier, found: Tensor, points: tuple[Tensor, Tensor, float], doubtful: Tensor, chosen: Tensor
) -> None:
    """Raise RuntimeError if a point in the box of a proven image is misclassified in float64 as well."""
    at = doubtful.nonzero().flatten()
    if len(at) == 0:
        return
    wrong = verifier.refutes(found[at], points[0][at], points[1][at], points[2])
    if bool(wrong.any()):
        index = int(chosen[int(at[wrong][0])])
        raise RuntimeError(f"image {index} was verified and yet broken by PGD: a bound is wrong. Please report this.")
