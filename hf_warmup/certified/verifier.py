"""Certificates: per image, a proof that no perturbation up to a radius changes the answer.

The statement is about the network with its stored weights in exact arithmetic. A pass in the model's own precision may
only deny; what it does not deny is bounded again in float64, where every rule widens its result by a bound on its own
rounding error (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), so a positive margin is a proof.
It does not cover the rounding of an inference in float32, which is about 1e-6 of the logits. Constants that a forward
pass computes from the weights alone count as float64 computes them, as no rule sees their rounding.
"""

import copy
import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor, nn

from hf_warmup.bounds import FAST_RULES, Interval, input_interval, margins, propagate
from hf_warmup.bounds.interval import Rules
from hf_warmup.bounds.radius import parse_eps
from hf_warmup.certified.consistency import check_function, logits_of, probe
from hf_warmup.certified.linear_stages import SlopeRows
from hf_warmup.certified.requirements import check_batch, check_model, check_surroundings
from hf_warmup.training.precision import proof_arithmetic


VERIFIER = "interval bound propagation, last layer elided, float64 with bounded rounding"
_UNIT_ROUNDOFF = 2.0**-53
# So many images are bounded first, whatever comes of it, and compared layer by layer.
_PROBED = 2


@dataclass(frozen=True)
class Certificate:
    """What was proven of each image of a batch.

    Attributes:
        margin: lower bound on how far the label leads every other class within the radius, (B,); float64. Where the
            model's own precision already denied the proof it is that pass's number; -inf where no stage looked.
        verified: whether it is proven, (B,).
        eps: the radius, in pixel units.
        verifier: how.
        method: name of the stage that verified each image, None for the others; empty from `Verifier`.
        predictions: what the model answers in float64, (B,); None from `Verifier`.
        falsified: whether a point within the radius is known that is misclassified in float64, (B,); an image that is
            answered wrongly is such a point itself. None from `Verifier`. What is neither verified nor falsified is
            unknown.
        counterexamples: these points, (F, C, H, W) in float64, in the images' order.
        unrelaxed: operations without a linear bound, which were taken at their intervals: sound, but looser.
        seconds: what each stage took, in all processes together.
        looked: how many images each stage has looked at.
        stopped: stages that ran out of "time" or "memory"; the images that they had left stay unknown to them.
        slopes: what alpha-CROWN's proofs are, see `SlopeRows`; None where it proved nothing.
    """

    margin: Tensor
    verified: Tensor
    eps: float
    verifier: str = VERIFIER
    method: tuple[str | None, ...] = ()
    predictions: Tensor | None = None
    falsified: Tensor | None = None
    counterexamples: Tensor | None = None
    unrelaxed: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    slopes: SlopeRows | None = None


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

    Found by bisection, so it is within `eps_max / 2^iterations` of the largest radius that interval bounds prove.

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
    """Certifies by interval bounds with one model, which is copied to float64 once.

    `certify`, the function, takes tighter bounds as well.

    Raises:
        ValueError: if the model is in training mode, neither in float32 nor in float64, holds numbers that are not
            finite or computes weights in each pass.
    """

    def __init__(self, model: nn.Module) -> None:
        check_model(model)
        self.model = model
        # Linear bounds are differentiated, but never for the weights.
        self.exact = copy.deepcopy(model).double().requires_grad_(False)
        self._dtype = next(model.parameters()).dtype

    @torch.no_grad()
    def certify(
        self, pixel_values: Tensor, labels: Tensor, *, eps: float | str | Fraction, batch_size: int = 256
    ) -> Certificate:
        """See the function of this name; by interval bounds alone."""
        radius = parse_eps(eps)
        check_batch(self.model, pixel_values, labels)
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
            with proof_arithmetic(pixel_values.device), torch.backends.cudnn.flags(enabled=False):
                logits = propagate(self.exact, _box(pixel_values[some].double(), eps))
                plain = margins(logits, labels[some]).amin(1)
            slack[some] = (plain - certificate.margin[some]).clamp(min=0)
        return slack

    @torch.no_grad()
    def logits(self, pixel_values: Tensor) -> Tensor:
        """What the copy in float64 answers, (B, K)."""
        with proof_arithmetic(pixel_values.device):
            return logits_of(self.exact, pixel_values.double())

    @torch.no_grad()
    def check(self, pixel_values: Tensor, labels: Tensor, eps: Tensor) -> torch.Generator:
        """Refuse a model, images or surroundings of which nothing can be proven.

        Returns:
            The generator of the points that bounds are compared at.

        Raises:
            As `certify`.
        """
        check_batch(self.model, pixel_values, labels)
        check_surroundings(pixel_values.device)
        generator = torch.Generator().manual_seed(0)
        with proof_arithmetic(pixel_values.device), torch.backends.cudnn.flags(enabled=False):
            few = pixel_values[:_PROBED].double()
            probe(self.exact, _box(few, eps[:_PROBED], _UNIT_ROUNDOFF), generator)
        return generator

    @torch.no_grad()
    def refutes(self, tried: Tensor, pixel_values: Tensor, labels: Tensor, eps: float) -> Tensor:
        """Whether each point lies within the radius of its image and is surely misclassified, (B,).

        Another class must lead in exact arithmetic, by more than eight times what rounding may take in float64, so
        that others who count roundings less sharply find it too.
        """
        if not len(tried):
            return torch.zeros_like(labels, dtype=torch.bool)
        tried, pixel_values = tried.double(), pixel_values.double()
        inside = ((tried - pixel_values).abs() <= eps) & (tried >= 0) & (tried <= 1)
        none = torch.zeros(len(tried), dtype=torch.float64, device=tried.device)
        with proof_arithmetic(tried.device), torch.backends.cudnn.flags(enabled=False):
            logits = propagate(self.exact, _box(tried, none, 8 * _UNIT_ROUNDOFF))
        winner = logits.clean.argmax(1)
        column = (labels - (labels > winner).long()).clamp(max=logits.shape[1] - 2)[:, None]
        lead = margins(logits, winner).gather(1, column)[:, 0]
        return inside.flatten(1).all(1) & (winner != labels) & (lead > 0)

    def _margin(self, pixel_values: Tensor, labels: Tensor, eps: Tensor, batch_size: int) -> Tensor:
        generator = self.check(pixel_values, labels, eps)
        with proof_arithmetic(pixel_values.device):
            parts = zip(*(torch.split(x, batch_size) for x in (pixel_values, labels, eps)), strict=True)
            return torch.cat([self.batch_margin(x, y, radii, generator) for x, y, radii in parts])

    def batch_margin(self, pixel_values: Tensor, labels: Tensor, eps: Tensor, generator: torch.Generator) -> Tensor:
        rough = pixel_values.to(self._dtype)
        if rough.dim() == 4:
            rough = rough.contiguous(memory_format=torch.channels_last)
        logits = propagate(self.model, _box(rough, eps.to(self._dtype), rules=FAST_RULES))
        margin = margins(logits, labels).amin(1).double()
        # NaN is no denial, but not a proof either: the second pass sees those too.
        left = (~(margin <= 0)).nonzero().flatten()
        if len(left):
            # Library convolutions may use transforms that the rounding bound does not cover.
            with torch.backends.cudnn.flags(enabled=False):
                box = _box(pixel_values[left].double(), eps[left], _UNIT_ROUNDOFF)
                logits = propagate(self.exact, box)
                check_function(self.exact, box, logits, generator)
                margin[left] = margins(logits, labels[left]).amin(1)
        # NaN and infinity prove nothing.
        return torch.where(margin < math.inf, margin, -math.inf)


def _box(pixel_values: Tensor, eps: Tensor, rounding: float = 0.0, rules: Rules | None = None) -> Interval:
    each = eps.view(-1, *[1] * (pixel_values.dim() - 1))
    return input_interval(pixel_values, each, rounding=rounding, rules=rules)
