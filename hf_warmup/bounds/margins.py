"""Lower bounds on how far the true class leads each other class."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, latest, made, shared
from hf_warmup.bounds.provenance import Affine, Softmax


# Differences of weights are held for so many of them at once (16 MB in float64, a few times over), or for one image.
_MOST_WEIGHTS = 2**21


def margins(logits: Interval, labels: Tensor) -> Tensor:
    """Lower bounds of logit(label) - logit(j) for every other class j, in ascending order of j.

    If the logits come from an affine map, the differences are merged with its weights before bounding: the radius of
    what both classes share then cancels. Otherwise lower and upper bounds are subtracted, which is looser.

    Args:
        logits: bounds on the logits, (B, K), K >= 2.
        labels: (B,), in [0, K).

    Returns:
        (B, K - 1); a sample is verified if all its margins are positive.

    Raises:
        ValueError: for labels that are no integers, of another shape or outside [0, K).

    Source: Shi et al., arXiv 2103.17268, section 3.1; elision as in Gowal et al., arXiv 1810.12715, section 3.
    """
    logits = latest(logits)
    check_labels(labels, *logits.shape)
    return unchecked_margins(logits, labels.long())


def check_labels(labels: Tensor, batch: int, classes: int) -> None:
    """Raise as `margins` does; on an accelerator this waits for the labels' values."""
    if labels.dtype == torch.bool or labels.is_floating_point():
        raise ValueError(f"labels must be integers, got {labels.dtype}.")
    if labels.shape != (batch,) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must be {batch} class numbers in [0, {classes}); got shape {tuple(labels.shape)} with values "
            f"{labels.min().item()} to {labels.max().item()}."
        )


def unchecked_margins(logits: Interval, labels: Tensor) -> Tensor:
    """`margins` of labels in int64; of wrong ones torch complains itself, later on an accelerator."""
    rivals = rivals_of(labels, logits.shape[1])
    if isinstance(logits.provenance, Softmax):
        return of_probabilities(logits, unchecked_margins(logits.provenance.logits, labels), labels, rivals)
    if not isinstance(logits.provenance, Affine):
        own = logits.lower.gather(1, labels[:, None])
        return (
            own - logits.upper.gather(1, rivals) if not logits.rounding else _difference(logits, labels, rivals).lower
        )
    source = logits.provenance
    at_once = max(1, _MOST_WEIGHTS // source.weight.numel())
    if len(labels) <= at_once:
        return _merged(source, source.input, labels, rivals)
    room = None if _needs_gradients(source) else _Room.of(source, at_once)
    parts = [slice(first, first + at_once) for first in range(0, len(labels), at_once)]
    return torch.cat([_merged(source, _rows(source.input, rows), labels[rows], rivals[rows], room) for rows in parts])


def _needs_gradients(source: Affine) -> bool:
    tensors = (source.weight, source.input.center, source.input.radius, source.input.clean)
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@dataclass(frozen=True)
class _Room:
    """Memory that all parts of a batch use one after the other.

    Fresh tensors for each would pile up: glibc cannot hand an aligned piece of a few MB out again once a small result
    lies behind it.

    Attributes:
        weights: for one difference of weights for each image and rival, (B, K - 1, D).
        magnitudes: of the affine map's weights, (K, D); None where no rounding is paid for.
    """

    weights: Tensor
    magnitudes: Tensor | None

    @classmethod
    def of(cls, source: Affine, at_once: int) -> "_Room":
        """For so many images at once."""
        classes, width = source.weight.shape
        weights = source.weight.new_empty(at_once, classes - 1, width)
        return cls(weights, source.weight.abs() if source.input.rounding else None)

    def of_rivals(self, weight: Tensor, rivals: Tensor) -> Tensor:
        """The rows of `weight` that belong to rivals, (B, K - 1, D), where what was here before is lost."""
        found = self.weights[: len(rivals)]
        torch.index_select(weight, 0, rivals.flatten(), out=found.view(-1, weight.shape[1]))
        return found


def _merged(source: Affine, x: Interval, labels: Tensor, rivals: Tensor, room: _Room | None = None) -> Tensor:
    """Margins of logits that are an affine map of `x`, by the differences of its weights, (B, K - 1, D)."""
    # Looked up by `embedding`, which unlike an index takes no negative number.
    own = F.embedding(labels[:, None], source.weight)
    if room is None:
        weight = own - F.embedding(rivals, source.weight)
    else:
        weight = torch.sub(own, others := room.of_rivals(source.weight, rivals), out=others)
    bias = None if source.bias is None else source.bias[labels][:, None] - source.bias[rivals]
    center = torch.einsum("bkd,bd->bk", weight, x.center)
    clean = torch.einsum("bkd,bd->bk", weight, x.clean)
    radius = torch.einsum("bkd,bd->bk", weight.abs() if room is None else weight.abs_(), x.radius)
    terms = weight.shape[-1] + 4 + source.roundings
    if bias is not None:
        center, clean = center + bias, clean + bias
    magnitude = None
    if x.rounding:
        magnitude = torch.einsum("bkd,bd->bk", _pairs(source, labels, rivals, room), x.center.abs() + x.radius)
        if source.bias is not None:
            magnitude = magnitude + source.bias.abs()[labels][:, None] + source.bias.abs()[rivals]
    return made(x, clean, center, radius, magnitude=magnitude, terms=terms).lower


def _pairs(source: Affine, labels: Tensor, rivals: Tensor, room: _Room | None) -> Tensor:
    """What the magnitudes of label's and rival's weights add up to, (B, K - 1, D)."""
    if room is None or room.magnitudes is None:
        magnitudes = source.weight.abs()
        return magnitudes[labels][:, None, :] + magnitudes[rivals]
    return room.of_rivals(room.magnitudes, rivals).add_(room.magnitudes[labels][:, None, :])


def of_probabilities(logits: Interval, leads: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """The label's lead in probability, from its lead d in what softmax was applied to.

    It is p(label) (1 - exp(-d)) and p(rival) (exp(d) - 1), so a positive d proves a positive lead.
    """
    own, other = logits.lower.gather(1, labels[:, None]), logits.upper.gather(1, rivals)
    unit = 64.0 * torch.finfo(own.dtype).eps
    ahead = own.clamp(min=0) * -torch.expm1(-leads) * (1 - unit)
    behind = other.clamp(max=1) * torch.expm1(leads.clamp(max=0)) * (1 + unit) - torch.finfo(own.dtype).tiny
    return torch.where(leads > 0, ahead, behind)


def rivals_of(labels: Tensor, classes: int) -> Tensor:
    """(B, K - 1): all classes but the label's, ascending."""
    others = torch.arange(classes - 1, device=labels.device).expand(len(labels), -1)
    return others + (others >= labels[:, None])


def _rows(x: Interval, rows: slice) -> Interval:
    return shared(x, clean=x.clean[rows], center=x.center[rows], radius=x.radius[rows])


def _difference(logits: Interval, labels: Tensor, rivals: Tensor) -> Interval:
    def pick(index: Tensor) -> Interval:
        parts = (part.gather(1, index) for part in (logits.clean, logits.center, logits.radius))
        clean, center, radius = parts
        return shared(logits, clean=clean, center=center, radius=radius)

    difference: Interval = pick(labels[:, None]) - pick(rivals)
    return difference
