"""Certificates: per image, a proof that no perturbation up to a radius changes the answer.

The statement is about the network with its stored weights in exact arithmetic. A pass in the model's own precision may
only deny; what it does not deny is bounded again in float64, where every rule widens its result by a bound on its own
rounding error (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), so a positive margin is a proof.
It does not cover the rounding of an inference in float32, which is about 1e-6 of the logits. Constants that a forward
pass computes from the weights alone count as float64 computes them, as no rule sees their rounding.
"""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

from hf_warmup.bounds import FAST_RULES, Interval, margins, propagate
from hf_warmup.bounds.box import Box, Radius, box_of
from hf_warmup.bounds.radius import parse_eps
from hf_warmup.certified.consistency import check_function, logits_of, probe
from hf_warmup.certified.linear_stages import SlopeRows
from hf_warmup.certified.placing import fitting_batch
from hf_warmup.certified.requirements import called_with, check_batch, check_model, check_surroundings, exact_copy
from hf_warmup.training.precision import proof_arithmetic


VERIFIER = "interval bound propagation, last layer elided, float64 with bounded rounding"
_UNIT_ROUNDOFF = 2.0**-53
# So many images are bounded first, whatever comes of it, and compared layer by layer.
_PROBED = 2
# Steps of a bisection after which images that are not proven yet are tried at the smallest radius.
_DOUBTFUL = 4


@dataclass(frozen=True)
class Certificate:
    """What was proven of each image of a batch.

    Attributes:
        margin: lower bound on how far the label leads every other class within the radius, (B,); float64. Where the
            model's own precision already denied the proof it is that pass's number; -inf where no stage looked.
        verified: whether it is proven, (B,).
        eps: the radius, in pixel units; of boxes that one radius does not say, the most that any pixel may change.
        verifier: how.
        method: name of the stage that verified each image, None for the others; empty from `Verifier`.
        predictions: what the model answers in float64, (B,); None from `Verifier`.
        leads: how far the label leads every other class without a perturbation, in float64, (B,); None as before.
        falsified: whether a point within the radius is known that is misclassified in float64, (B,); an image that is
            answered wrongly is such a point itself. None from `Verifier`. What is neither verified nor falsified is
            unknown.
        counterexamples: these points, (F, C, H, W) in float64, in the images' order.
        unrelaxed: operations without a linear bound, which were taken at their intervals: sound, but looser.
        seconds: what each stage took, in all processes together.
        looked: how many images each stage has looked at.
        stopped: stages that ran out of "time" or "memory"; the images that they had left stay unknown to them.
        slopes: what alpha-CROWN's proofs are, see `SlopeRows`; None where it proved nothing.
        box: what each image was proven within.
    """

    margin: Tensor
    verified: Tensor
    eps: float
    verifier: str = VERIFIER
    method: tuple[str | None, ...] = ()
    predictions: Tensor | None = None
    leads: Tensor | None = None
    falsified: Tensor | None = None
    counterexamples: Tensor | None = None
    unrelaxed: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    slopes: SlopeRows | None = None
    box: Box | None = field(default=None, repr=False)

    @property
    def relative_width(self) -> float:
        """How wide the bounds are beside what they should prove: what they take from the lead, over the lead.

        It is the mean of `leads - margin` over the mean of `leads`, of the images that are answered rightly and have
        finite bounds; NaN where there are none. An image is proven where its own is below 1. Networks that were
        trained for the bounds come to less than 1, others to 10 and far more.
        """
        if self.leads is None:
            return math.nan
        seen = (self.leads > 0) & self.margin.isfinite()
        leads = self.leads[seen]
        return float((leads - self.margin[seen]).mean() / leads.mean())


def certified_radius(
    model: nn.Module,
    pixel_values: Tensor,
    labels: Tensor,
    *,
    eps_max: float | str | Fraction,
    iterations: int = 10,
    batch_size: int | Literal["auto"] = 256,
) -> Tensor:
    """For each image a radius up to `eps_max` within which the answer is proven, (B,) in float64; 0 where none is.

    Found by bisection, so it is within `eps_max / 2^iterations` of the largest radius that interval bounds prove.

    Args:
        model, pixel_values, labels, batch_size: as `certify`.
        eps_max: the largest radius that is tried, in pixel units.
        iterations: of the bisection.

    Raises:
        As `certify`.
    """
    verifier, highest = Verifier(model), parse_eps(eps_max)
    pixel_values, labels = check_batch(model, pixel_values, labels)
    batch_size = batch_of(verifier, pixel_values, batch_size)
    proven = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    denied = torch.full_like(proven, highest)
    whole = verifier.certify(pixel_values, labels, eps=highest, batch_size=batch_size).verified
    proven[whole] = highest
    answers = [verifier.logits(part).argmax(1) for part in torch.split(pixel_values, batch_size)]
    # What is answered wrongly is proven at no radius.
    left = (~whole & (torch.cat(answers) == labels)).nonzero().flatten()

    def verified(some: Tensor, at: Tensor) -> Tensor:
        return verifier.verified_at(pixel_values[some], labels[some], at, batch_size=batch_size)

    for step in range(iterations):
        if step == _DOUBTFUL:
            # Who is not proven at the smallest radius is so at none.
            never = left[proven[left] == 0]
            if len(never):
                never = never[~verified(never, torch.full_like(proven[never], highest / 2**iterations))]
            left = left[~torch.isin(left, never)]
        if len(left) == 0:
            break
        middle = (proven[left] + denied[left]) / 2
        found = verified(left, middle)
        proven[left[found]], denied[left[~found]] = middle[found], middle[~found]
    return proven


class Verifier:
    """Certifies by interval bounds with one model, which is copied to float64 once.

    `certify`, the function, takes tighter bounds as well.

    Raises:
        ValueError: if the model is in training mode, neither in float32 nor in float64, holds numbers that are not
            finite, computes weights in each pass or cannot be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        check_model(model)
        self.model = model
        self.exact = exact_copy(model)
        self._dtype = next(model.parameters()).dtype
        # The radii that were probed already, by shape and device, and what the last probe found.
        self._probed: dict[tuple[torch.Size, torch.device], float] = {}
        self._known: tuple[Box, Interval] | None = None

    @torch.no_grad()
    def certify(
        self,
        pixel_values: Tensor,
        labels: Tensor,
        *,
        eps: Radius | None = None,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        batch_size: int = 256,
    ) -> Certificate:
        """See the function of this name; by interval bounds alone."""
        pixel_values, labels = check_batch(self.model, pixel_values, labels)
        box = box_of(pixel_values, eps, lower=lower, upper=upper)
        margin = self._margin(box, labels, batch_size)
        return Certificate(margin, margin > 0, box.largest_radius, box=box)

    @torch.no_grad()
    def verified_at(self, pixel_values: Tensor, labels: Tensor, eps: Tensor, *, batch_size: int = 256) -> Tensor:
        """Whether each image is proven at a radius of its own, `eps`, (B,) in float64, in [0, 1]."""
        pixel_values, labels = check_batch(self.model, pixel_values, labels)
        return self._margin(box_of(pixel_values, eps), labels, batch_size) > 0

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
        box = box_of(pixel_values, certificate.eps) if certificate.box is None else certificate.box
        for some in torch.split(proven, batch_size) if len(proven) else ():
            with proof_arithmetic(pixel_values.device), torch.backends.cudnn.flags(enabled=False):
                logits = propagate(self.exact, box[some].to(torch.float64).interval())
                plain = margins(logits, labels[some]).amin(1)
            slack[some] = (plain - certificate.margin[some]).clamp(min=0)
        return slack

    @torch.no_grad()
    def logits(self, pixel_values: Tensor) -> Tensor:
        """What the copy in float64 answers, (B, K)."""
        with proof_arithmetic(pixel_values.device):
            return logits_of(self.exact, pixel_values.double())

    @torch.no_grad()
    def check(self, box: Box) -> torch.Generator:
        """Refuse a model or surroundings of which nothing can be proven.

        A model's layers are compared with their bounds once for each shape of images and device, and again for boxes
        that reach farther than those before; `batch_margin` compares every image.

        Returns:
            The generator of the points that bounds are compared at.

        Raises:
            As `certify`.
        """
        device = box.pixel_values.device
        check_surroundings(device)
        generator, kind = torch.Generator().manual_seed(0), (box.pixel_values.shape[1:], device)
        if box.largest_radius > self._probed.get(kind, -1.0):
            few = box[:_PROBED].to(torch.float64).copy()
            with (
                proof_arithmetic(device),
                torch.backends.cudnn.flags(enabled=False),
                called_with(self.exact, few.pixel_values),
            ):
                self._known = few, probe(self.exact, few.interval(rounding=_UNIT_ROUNDOFF), generator)
            self._probed[kind] = box.least_radius
        return generator

    @torch.no_grad()
    def refutes(self, tried: Tensor, box: Box, labels: Tensor) -> Tensor:
        """Whether each point lies within its image's box and is surely misclassified, (B,).

        Another class must lead in exact arithmetic, by more than eight times what rounding may take in float64, so
        that others who count roundings less sharply find it too.
        """
        if not len(tried):
            return torch.zeros_like(labels, dtype=torch.bool)
        tried = tried.double()
        with proof_arithmetic(tried.device), torch.backends.cudnn.flags(enabled=False):
            logits = propagate(self.exact, box_of(tried, 0).interval(rounding=8 * _UNIT_ROUNDOFF))
        winner = logits.clean.argmax(1)
        column = (labels - (labels > winner).long()).clamp(max=logits.shape[1] - 2)[:, None]
        lead = margins(logits, winner).gather(1, column)[:, 0]
        return box.holds(tried) & (winner != labels) & (lead > 0)

    def _margin(self, box: Box, labels: Tensor, batch_size: int) -> Tensor:
        generator = self.check(box)
        with proof_arithmetic(box.pixel_values.device):
            rows = [slice(first, first + batch_size) for first in range(0, len(labels), batch_size)]
            return torch.cat([self.batch_margin(box[some], labels[some], generator) for some in rows])

    def batch_margin(self, box: Box, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Margins of a batch by interval bounds, (B,) in float64, and the checks of each image that goes with them."""
        rough = box.to(self._dtype)
        if rough.pixel_values.dim() == 4:
            images = rough.pixel_values.contiguous(memory_format=torch.channels_last)
            rough = replace(rough, pixel_values=images)
        logits = propagate(self.model, rough.interval(rules=FAST_RULES))
        margin = margins(logits, labels).amin(1).double()
        # NaN is no denial, but not a proof either: the second pass sees those too.
        left = (~(margin <= 0)).nonzero().flatten()
        if len(left):
            # Library convolutions may use transforms that the rounding bound does not cover.
            with torch.backends.cudnn.flags(enabled=False):
                margin[left] = margins(self._bounds(box[left].to(torch.float64), generator), labels[left]).amin(1)
        # NaN and infinity prove nothing.
        return torch.where(margin < math.inf, margin, -math.inf)

    def _bounds(self, box: Box, generator: torch.Generator) -> Interval:
        """Bounds on logits, which every image's own logits were compared with."""
        if self._known is not None and box.same(self._known[0]):
            return self._known[1]
        interval = box.interval(rounding=_UNIT_ROUNDOFF)
        logits = propagate(self.exact, interval)
        check_function(self.exact, interval, logits, generator)
        return logits


def batch_of(verifier: Verifier, pixel_values: Tensor, batch_size: int | Literal["auto"]) -> int:
    """How many images are bounded at once; "auto" means as many as fit into memory, see `fitting_batch`."""
    return fitting_batch(verifier.model, verifier.exact, pixel_values) if batch_size == "auto" else batch_size
