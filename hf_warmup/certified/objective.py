"""What certified training minimizes: one objective, of which vanilla IBP, the paper's method and its ablations are
configurations. Everything that changes over training follows from the step by the ramp that is given.

Source: Shi et al., arXiv 2103.17268, sections 3.3.3 and 3.4; the order of the passes and the handling of radius 0 are
those of their published code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.bounds import Interval, input_interval, margins, propagate
from hf_warmup.certified.losses import robust_cross_entropy
from hf_warmup.certified.regularizers import TOLERANCE, relu_balance_loss, tightness_loss
from hf_warmup.schedules import Schedule, constant


# While the radius is still 0 the regularizers look at bounds of this one.
LEAST_EPS = 1e-6


@dataclass(frozen=True)
class CertifiedObjective:
    """`objective(model, batch, step) -> (loss, metrics)` for `hf_warmup.train`.

    The loss is cross-entropy while the radius is 0 and robust cross-entropy afterwards, plus
    `reg_weight (1 - ramp) (tightness + balance)`; both passes, clean and interval, are one call of the model.

    Attributes:
        eps_max: radius trained for, in pixel units, > 0.
        ramp: step -> share of `eps_max`, in [0, 1], such as `smoothed_ramp`.
        reg_weight: lambda_0 of the paper; 0 turns the regularizers off (vanilla IBP).
        tightness, relu_balance: which of the two are used.
        tolerance: tau of the paper.
        robust_weight: step -> weight of the robust loss against the natural one once the radius is positive; the
            paper's is 1 throughout (the kappa of earlier work is one minus it).
        l1_weight: of the sum of absolute weights of matrices and kernels; 0 in the paper.
        transform: random augmentation of a batch of images, here because its random numbers are then resumed.
    """

    eps_max: float
    ramp: Schedule
    reg_weight: float = 0.5
    tightness: bool = True
    relu_balance: bool = True
    tolerance: float = TOLERANCE
    robust_weight: Schedule = constant
    l1_weight: float = 0.0
    transform: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.eps_max <= 1:
            raise ValueError(f"eps_max must lie in (0, 1], in units of pixels in [0, 1]; got {self.eps_max!r}.")
        for name in ("reg_weight", "l1_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}.")

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Loss of a batch with `pixel_values` in [0, 1], (B, C, H, W), and `labels`, (B,), at a 0-based step."""
        pixel_values, labels = batch["pixel_values"], batch["labels"]
        if self.transform is not None:
            pixel_values = self.transform(pixel_values)
        share = self.ramp(step)
        eps = self.eps_max * share
        reg_weight = self.reg_weight * (1.0 - share) if self.tightness or self.relu_balance else 0.0
        metrics: dict[str, float | Tensor] = {"eps": eps, "reg_weight": reg_weight}
        if eps == 0 and reg_weight == 0:
            output = model(pixel_values)
            logits = getattr(output, "logits", output)
            loss = F.cross_entropy(logits, labels)
        else:
            tape: list[Interval] = []
            box = input_interval(pixel_values, max(eps, LEAST_EPS) if reg_weight else eps, tape=tape)
            bounds = propagate(model, box)
            logits = bounds.clean
            loss = self._main_loss(bounds, labels, eps, step, metrics)
            if reg_weight:
                loss = loss + reg_weight * self._regularizers(tape, network_input(model, box), metrics)
        if self.l1_weight:
            loss = loss + self.l1_weight * sum(p.abs().sum() for p in model.parameters() if p.dim() > 1)
        metrics["clean_accuracy"] = (logits.detach().argmax(1) == labels).float().mean()
        return loss, metrics

    def _main_loss(
        self, bounds: Interval, labels: Tensor, eps: float, step: int, metrics: dict[str, float | Tensor]
    ) -> Tensor:
        weight = self.robust_weight(step) if eps > 0 else 0.0
        loss = torch.zeros((), device=labels.device)
        if weight > 0:
            lower = margins(bounds, labels)
            robust = robust_cross_entropy(lower)
            metrics |= {
                "robust_loss": robust.detach(),
                "verified_accuracy": (lower.detach() > 0).all(1).float().mean(),
            }
            loss = loss + weight * robust
        if weight < 1:
            loss = loss + (1.0 - weight) * F.cross_entropy(bounds.clean, labels)
        return loss

    def _regularizers(self, tape: list[Interval], box: Interval, metrics: dict[str, float | Tensor]) -> Tensor:
        total = torch.zeros((), device=box.device)
        if self.tightness:
            term = tightness_loss(tape, box, tolerance=self.tolerance)
            metrics["tightness_loss"] = term.detach()
            total = total + term
        if self.relu_balance:
            term = relu_balance_loss(tape, tolerance=self.tolerance)
            metrics["relu_balance_loss"] = term.detach()
            total = total + term
        return total


def network_input(model: nn.Module, box: Interval) -> Interval:
    """The box behind the model's `normalization` layer, if it has one: what the paper calls the network's input."""
    inner = getattr(model, "module", model)  # DistributedDataParallel's
    layer = getattr(inner, "normalization", None)
    if not isinstance(layer, nn.Module):
        return box
    normalized: Interval = layer(box)
    return normalized
