"""Certificates: per image, a proof that no perturbation up to a radius changes the answer.

The statement is about the network with its stored weights in exact arithmetic. A pass in the model's own precision may
only deny; what it does not deny is bounded again in float64, where every rule widens its result by a bound on its own
rounding error (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), so a positive margin is a proof.
It does not cover the rounding of an inference in float32, which is about 1e-6 of the logits.
"""

import copy
import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_warmup.bounds import FAST_RULES, RULES, input_interval, margins, propagate
from hf_warmup.bounds.interval import Rules
from hf_warmup.bounds.radius import parse_eps


VERIFIER = "interval bound propagation, last layer elided, float64 with bounded rounding"
_UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True)
class Certificate:
    """What was proven of each image of a batch.

    Attributes:
        margin: lower bound on how far the label leads every other class within the radius, (B,); float64. Where the
            model's own precision already denied the proof it is that pass's number.
        verified: whether it is proven, (B,).
        eps: the radius, in pixel units.
        verifier: how.
    """

    margin: Tensor
    verified: Tensor
    eps: float
    verifier: str = VERIFIER


def certify(
    model: nn.Module, pixel_values: Tensor, labels: Tensor, *, eps: float | str | Fraction, batch_size: int = 256
) -> Certificate:
    """Prove, image by image, that the model answers with the label everywhere within `eps` (L-infinity, pixels cut to
    [0, 1]).

    Args:
        model: any module whose operations have rules, in eval mode, float32 or float64.
        pixel_values: (B, C, H, W) in [0, 1].
        labels: (B,), integers in [0, K).
        eps: radius in pixel units, such as "8/255".
        batch_size: images bounded at once.

    Raises:
        ValueError: for a radius, pixels, labels or a model that cannot be certified (see the message).
        UnsupportedOperation: if the model uses an operation without a rule.
    """
    return Verifier(model).certify(pixel_values, labels, eps=eps, batch_size=batch_size)


def certified_radius(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    *,
    eps_max: float | str | Fraction,
    iterations: int = 10,
    batch_size: int = 256,
) -> Tensor:
    """For each image a radius up to `eps_max` within which the answer is proven, (B,) in float64; 0 where none is.

    Found by bisection, so it is within `eps_max / 2^iterations` of the largest radius that this verifier proves.

    Raises:
        As `certify`.
    """
    verifier, highest = Verifier(model), parse_eps(eps_max)
    proven = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    denied = torch.full_like(proven, highest)
    whole = verifier.certify(pixel_values, labels, eps=highest, batch_size=batch_size)
    proven[whole.verified] = highest
    for _ in range(iterations):
        middle = (proven + denied) / 2
        verified = verifier.verified_at(pixel_values, labels, middle, batch_size=batch_size)
        proven, denied = torch.where(verified, middle, proven), torch.where(verified, denied, middle)
        proven[whole.verified] = highest
    return proven


class Verifier:
    """Certifies with one model, which is copied to float64 once.

    Raises:
        ValueError: if the model is in training mode or neither in float32 nor in float64.
    """

    def __init__(self, model: nn.Module) -> None:
        _check_model(model)
        self._model = model
        self._exact = copy.deepcopy(model).double()
        self._dtype = next(model.parameters()).dtype

    @torch.no_grad()
    def certify(
        self, pixel_values: Tensor, labels: Tensor, *, eps: float | str | Fraction, batch_size: int = 256
    ) -> Certificate:
        """See the function of this name."""
        radius = parse_eps(eps)
        each = torch.full((len(labels),), radius, dtype=torch.float64, device=pixel_values.device)
        margin = self._margin(pixel_values, labels, each, batch_size)
        return Certificate(margin, margin > 0, radius)

    @torch.no_grad()
    def verified_at(self, pixel_values: Tensor, labels: Tensor, eps: Tensor, *, batch_size: int = 256) -> Tensor:
        """Whether each image is proven at a radius of its own, `eps`, (B,) in float64, in [0, 1]."""
        if not bool(((eps >= 0) & (eps <= 1)).all()):
            raise ValueError("every eps must lie in [0, 1], as pixels do.")
        return self._margin(pixel_values, labels, eps, batch_size) > 0

    @torch.no_grad()
    def rounding_slack(
        self, pixel_values: Tensor, labels: Tensor, certificate: Certificate, *, batch_size: int = 256
    ) -> Tensor:
        """How much of each margin the bound on rounding took, (B,) in float64; NaN where nothing was proven.

        Args:
            pixel_values, labels, batch_size: as `certify`.
            certificate: what it returned for them.
        """
        proven = certificate.verified.nonzero().flatten()
        slack = torch.full_like(certificate.margin, math.nan)
        for start in range(0, len(proven), batch_size):
            some = proven[start : start + batch_size]
            eps = torch.full((len(some),), certificate.eps, dtype=torch.float64, device=pixel_values.device)
            with torch.backends.cudnn.flags(enabled=False):
                plain = self._bound(self._exact, pixel_values[some].double(), labels[some], eps, 0.0)
            slack[some] = (plain - certificate.margin[some]).clamp(min=0)
        return slack

    def _margin(self, pixel_values: Tensor, labels: Tensor, eps: Tensor, batch_size: int) -> Tensor:
        _check_surroundings(pixel_values.device)
        _check_batch(self._model, pixel_values, labels)
        parts = zip(*(torch.split(x, batch_size) for x in (pixel_values, labels, eps)), strict=True)
        return torch.cat([self._batch_margin(*part) for part in parts])

    def _batch_margin(self, pixel_values: Tensor, labels: Tensor, eps: Tensor) -> Tensor:
        rough = pixel_values.to(self._dtype)
        if rough.dim() == 4:
            rough = rough.contiguous(memory_format=torch.channels_last)
        margin = self._bound(self._model, rough, labels, eps.to(self._dtype), 0.0, FAST_RULES).double()
        # NaN is no denial, but not a proof either: the second pass sees those too.
        left = (~(margin <= 0)).nonzero().flatten()
        if len(left):
            # Library convolutions may use transforms that the rounding bound does not cover.
            with torch.backends.cudnn.flags(enabled=False):
                margin[left] = self._bound(
                    self._exact, pixel_values[left].double(), labels[left], eps[left], _UNIT_ROUNDOFF
                )
        return margin.nan_to_num(nan=-math.inf)

    @staticmethod
    def _bound(
        model: nn.Module, pixel_values: Tensor, labels: Tensor, eps: Tensor, rounding: float, rules: Rules = RULES
    ) -> Tensor:
        each = eps.view(-1, *[1] * (pixel_values.dim() - 1))
        box = input_interval(pixel_values, each, rounding=rounding, rules=rules)
        logits = propagate(model, box)
        if rounding:
            _check_function(model, pixel_values, logits.clean)
        return margins(logits, labels).amin(1)


def _check_model(model: nn.Module) -> None:
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(f"the model is in training mode ({training[0]}): call model.eval() before certifying.")
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"batch normalization without running statistics ({name or type(module).__name__}) makes an image's "
                "logits depend on the other images of its batch, so nothing can be proven of it."
            )
    dtypes = {p.dtype for p in model.parameters()}
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        raise ValueError(
            f"the model's parameters must all be float32 or all float64, got {', '.join(sorted(map(str, dtypes)))}; "
            "load it in one of those."
        )


def _check_function(model: nn.Module, pixel_values: Tensor, clean: Tensor) -> None:
    """What was bounded is what the model computes, and an image's logits do not depend on the rest of the batch."""
    for part, expected in ((pixel_values, clean), (pixel_values[:1], clean[:1])):
        output = model(part)
        plain = getattr(output, "logits", output)
        if not torch.allclose(plain, expected, rtol=1e-9, atol=1e-9 * float(clean.abs().max()), equal_nan=True):
            raise ValueError(
                "the model's logits are not a function of the image alone: they differ between two passes, or with "
                "the other images of the batch, so nothing can be certified about an image."
            )


def _check_surroundings(device: torch.device) -> None:
    if torch.is_autocast_enabled(device.type):
        raise ValueError("autocast is on, and its lower precision would void the bounds: certify outside of it.")
    tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    if tf32 or torch.get_float32_matmul_precision() != "highest":
        raise ValueError(
            "TF32 or reduced float32 precision is on, and would void the bounds: set "
            "torch.backends.cudnn.allow_tf32 = False and torch.set_float32_matmul_precision('highest')."
        )


def _check_batch(model: nn.Module, pixel_values: Tensor, labels: Tensor) -> None:
    if not pixel_values.is_floating_point() or pixel_values.dim() < 2 or len(pixel_values) != len(labels):
        raise ValueError(
            f"pixel_values must be floating point, one image per label; got {pixel_values.dtype} of shape "
            f"{tuple(pixel_values.shape)} with {len(labels)} labels."
        )
    if len(labels) == 0:
        raise ValueError("there is no image to certify.")
    # NaN fails both comparisons.
    if not bool(((pixel_values >= 0) & (pixel_values <= 1)).all()):
        raise ValueError(
            f"pixel_values must lie in [0, 1]; they reach from {pixel_values.min().item():.4g} to "
            f"{pixel_values.max().item():.4g}. Normalization belongs into the model."
        )
    channels = _channels(model)
    if pixel_values.dim() == 4 and channels is not None and pixel_values.shape[1] != channels:
        raise ValueError(f"the model takes images of {channels} channels, got {pixel_values.shape[1]}.")


def _channels(model: nn.Module) -> int | None:
    value = getattr(getattr(model, "config", None), "num_channels", None)
    return value if isinstance(value, int) else None
