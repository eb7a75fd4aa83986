"""What certified training minimizes: one objective, of which vanilla IBP, the paper's method and its ablations are
configurations. Everything that changes over training follows from the step by the ramp that is given.

Source: Shi et al., arXiv 2103.17268, sections 3.3.3 and 3.4; the order of the passes and the handling of radius 0 are
those of their published code.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from hf_warmup.bounds import FAST_RULES
from hf_warmup.bounds.interval import Rules
from hf_warmup.bounds.propagation import logits_in
from hf_warmup.certified.objectives.adversary import worst_points
from hf_warmup.certified.objectives.losses import Metrics, Weights, bounded_loss
from hf_warmup.certified.objectives.methods import Ibp, Method
from hf_warmup.certified.regularizers import TOLERANCE
from hf_warmup.errors import first_line
from hf_warmup.schedules import Schedule, constant


logger = logging.getLogger(__name__)

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
        tightness, relu_balance: which of the two are used; a network without ReLU, which they are about, has neither.
        tolerance: tau of the paper.
        robust_weight: step -> weight of the robust loss against the natural one once the radius is positive; the
            paper's is 1 throughout (the kappa of earlier work is one minus it).
        l1_weight: of the sum of absolute weights of matrices and kernels; 0 in the paper.
        method: IBP, the paper's, or another of `hf_warmup.certified.objectives`.
        rules: the table of bounds; `FAST_RULES` leaves operations that it does not know to the plain one.
        compile_mode: run steps with bounds through `torch.compile` in this mode, such as "default", or
            "reduce-overhead" for CUDA graphs where one batch makes an update; None does not compile. A model that it
            cannot take is trained without it, after a warning, and so are the copies of a model on several processes.
            Attacks and steps with linear bounds are never compiled.
    """

    eps_max: float
    ramp: Schedule
    reg_weight: float = 0.5
    tightness: bool = True
    relu_balance: bool = True
    tolerance: float = TOLERANCE
    robust_weight: Schedule = constant
    l1_weight: float = 0.0
    method: Method = Ibp()
    rules: Rules = field(default_factory=lambda: FAST_RULES, repr=False)
    compile_mode: str | None = None
    _loss: Callable[..., Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.eps_max <= 1:
            raise ValueError(f"eps_max must lie in (0, 1], in units of pixels in [0, 1]; got {self.eps_max!r}.")
        for name in ("reg_weight", "l1_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}.")
        loss = bounded_loss if self.compile_mode is None else _compiled(bounded_loss, self.compile_mode)
        object.__setattr__(self, "_loss", loss)

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor], step: int) -> tuple[Tensor, Metrics]:
        """Loss of a batch with `pixel_values` in [0, 1], (B, C, H, W), and `labels`, (B,), at a 0-based step."""
        pixel_values, labels = _parts(batch)
        share = self.ramp(step)
        eps = self.eps_max * share
        reg_weight = self.reg_weight * (1.0 - share) if self.tightness or self.relu_balance else 0.0
        metrics: Metrics = {"eps": eps, "reg_weight": reg_weight}
        if eps == 0 and reg_weight == 0:
            output = model(pixel_values)
            logits = logits_in(output)
            loss = F.cross_entropy(logits, labels)
        else:
            robust = self.robust_weight(step) if eps > 0 else 0.0
            radius = max(eps, LEAST_EPS) if reg_weight else eps
            weights = self._weights(radius, robust, reg_weight, self.method.linear_weight_at(share), pixel_values)
            attack = self.method.attack if robust > 0 else None
            points = None if attack is None else worst_points(model, pixel_values, labels, eps, attack)
            loss, logits, found = self._bounded(model, pixel_values, labels, weights, points)
            metrics |= found
        if self.l1_weight:
            loss = loss + self.l1_weight * sum(p.abs().sum() for p in model.parameters() if p.dim() > 1)
        metrics["clean_accuracy"] = (logits.detach().argmax(1) == labels).float().mean()
        return loss, metrics

    def _weights(self, eps: float, robust: float, regularizers: float, linear: float, like: Tensor) -> Weights:
        def scalar(value: float) -> Tensor:
            # Filled in where it is needed: a copy would make the host wait for the device.
            return torch.full((), value, dtype=like.dtype, device=like.device)

        return Weights(
            eps=scalar(eps),
            robust=scalar(robust) if robust > 0 else None,
            natural=scalar(1.0 - robust) if robust < 1 else None,
            tightness=scalar(regularizers) if regularizers and self.tightness else None,
            relu_balance=scalar(regularizers) if regularizers and self.relu_balance else None,
            linear=scalar(linear) if robust > 0 and linear > 0 else None,
        )

    def _bounded(
        self, model: nn.Module, pixel_values: Tensor, labels: Tensor, weights: Weights, points: Tensor | None
    ) -> tuple[Tensor, Tensor, Metrics]:
        arguments = (model, pixel_values, labels, weights, self.tolerance, self.rules, self.method, points)
        compiles = self._loss is not bounded_loss and weights.linear is None
        if compiles and not isinstance(model, DistributedDataParallel):
            try:
                if self.compile_mode == "reduce-overhead":
                    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                loss, logits, metrics = self._loss(*arguments)
                # A CUDA graph writes its results where it wrote the last ones.
                return loss, logits, {name: value.clone() for name, value in metrics.items()}
            except _refusals() as error:
                logger.warning(
                    "%s is trained without torch.compile, which refused it: %s",
                    type(model).__name__,
                    first_line(error),
                )
                object.__setattr__(self, "_loss", bounded_loss)
        return bounded_loss(*arguments)


def _parts(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    try:
        return batch["pixel_values"], batch["labels"]
    except (KeyError, TypeError, IndexError):
        found = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"a batch must have pixel_values and labels, got {found}: name them so in the loader's collate function."
        ) from None


def _refusals() -> tuple[type[Exception], ...]:
    """Errors of torch.compile before anything is computed: what it cannot trace, or cannot build on this machine."""
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit


def _compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    # Torch keeps what it has compiled with the code, and gives up after some variants: each objective has its own.
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    return torch.compile(own, fullgraph=True, dynamic=False, mode=mode)
