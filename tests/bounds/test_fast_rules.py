"""The fast table against the plain one: bounds, losses and gradients agree to rounding, whatever it is put through."""

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import NAMED
from test_rules import ball
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ResNetConfig, ResNetForImageClassification

from hf_warmup.bounds import FAST_RULES, RULES, Interval, UnsupportedOperation, input_interval, margins, propagate
from hf_warmup.bounds.fast import blockwise as blocks
from hf_warmup.bounds.fast.relu import relu
from hf_warmup.certified import CertifiedObjective, relu_balance_loss, robust_cross_entropy, tightness_loss
from hf_warmup.certified.objectives import losses as objective_module
from hf_warmup.certified.regularizers import moments
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


DOUBLE = torch.float64
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn7": {"image_size": 16},
    "wide_resnet8": {"widen_factor": 1},
    "resnext": {"stem_channels": 4, "bottleneck_width": 2},
    "cnn_small": {"batch_norm": "none"},
    "mlp": {"hidden_sizes": [16, 12]},
}
EPS = 0.02


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "transformers":
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 2], "layer_type": "basic"}
        return ResNetForImageClassification(ResNetConfig(num_channels=3, num_labels=10, **sizes)).double()
    config = CertifiedConfig(
        architecture=name,
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2, 0.3, 0.2],
        **{"image_size": 8, "dense_size": 16, **NETWORKS[name]},
    )
    return CertifiedForImageClassification(config).double()


def batch_for(name: str, seed: int = 1) -> dict[str, Tensor]:
    side = 32 if name == "transformers" else NETWORKS[name].get("image_size", 8)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(6, 3, side, side, dtype=DOUBLE, generator=generator)
    return {"pixel_values": images, "labels": torch.randint(0, 10, (6,), generator=generator)}


def robust(bounds: Interval, labels: Tensor, tape: list[Any], box: Interval) -> Tensor:
    return robust_cross_entropy(margins(bounds, labels))


def regularized(bounds: Interval, labels: Tensor, tape: list[Any], box: Interval) -> Tensor:
    return tightness_loss(tape, box) + relu_balance_loss(tape)


def natural(bounds: Interval, labels: Tensor, tape: list[Any], box: Interval) -> Tensor:
    return F.cross_entropy(bounds.clean, labels) + bounds.upper.logsumexp(1).mean()


def backward(model: nn.Module, batch: dict[str, Tensor], loss: Callable[..., Tensor], rules: Any) -> list[Tensor]:
    """Loss and bounds on the logits; gradients are left on the model."""
    tape: list[Any] | None = [] if loss is regularized else None
    box = input_interval(batch["pixel_values"], EPS, tape=tape, rules=rules)
    bounds = propagate(model, box)
    value = loss(bounds, batch["labels"], tape, box)
    value.backward()
    return [value.detach(), bounds.clean.detach(), bounds.lower.detach(), bounds.upper.detach()]


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-12, floor: float = 0.0) -> None:
    assert (ours - theirs).norm() <= tolerance * theirs.norm() + floor


def assert_same_gradients(fast: nn.Module, plain: nn.Module, tolerance: float = 1e-12) -> None:
    pairs = [(a.grad, b.grad) for a, b in zip(fast.parameters(), plain.parameters(), strict=True)]
    largest = max(float(b.norm()) for _, b in pairs if b is not None)
    assert largest > 0
    for ours, theirs in pairs:
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.isfinite().all()
            # The floor is for biases before a normalization, whose gradient is rounding noise about 0.
            assert_same(ours, theirs, tolerance, 1e-2 * tolerance * largest)


def test_tables_know_the_same_operations() -> None:
    assert FAST_RULES.keys() == RULES.keys()
    own = {key for key in RULES if FAST_RULES[key] is not RULES[key]}
    assert own == {F.linear, F.conv1d, F.conv2d, F.batch_norm, F.relu, torch.relu, Tensor.relu}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", [robust, regularized, natural])
@pytest.mark.parametrize("name", [*NETWORKS, "transformers"])
def test_networks_agree_in_float64(name: str, loss: Callable[..., Tensor], training: bool) -> None:
    plain = make(name).train(training)
    fast = copy.deepcopy(plain)
    for seed in (1, 2):  # Two batches, whose gradients are summed, as in accumulation.
        theirs = backward(plain, batch_for(name, seed), loss, None)
        ours = backward(fast, batch_for(name, seed), loss, FAST_RULES)
        assert torch.equal(ours[1], theirs[1]), "the clean pass is torch's own"
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    assert_same_gradients(fast, plain)
    for a, b in zip(fast.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("eps", "tolerance"), [(1e-2, 2e-6), (1e-4, 2e-6), (1e-6, 2e-5)])
def test_float32_is_nearer_to_float64_than_the_plain_table(eps: float, tolerance: float) -> None:
    model, batch = make("cnn7").float().train(), batch_for("cnn7")
    box = input_interval(batch["pixel_values"].float(), eps)

    def bound(dtype: torch.dtype, rules: Any) -> tuple[Tensor, list[Tensor]]:
        network = copy.deepcopy(model).to(dtype)
        parts = [part.to(dtype) for part in (box.clean, box.center, box.radius)]
        lower = margins(propagate(network, Interval(*parts, rules=rules)), batch["labels"])
        robust_cross_entropy(lower).backward()
        return lower.detach().double(), [p.grad.double() for p in network.parameters() if p.dim() > 1]

    truth, gradients = bound(DOUBLE, None)
    (ours, found), (theirs, _) = (bound(torch.float32, rules) for rules in (FAST_RULES, None))
    assert (ours - truth).abs().max() <= tolerance * truth.abs().max()
    # Radii that the ReLU does not recover from the distance of two ends.
    assert (ours - truth).abs().max() <= 1.5 * (theirs - truth).abs().max()
    for a, b in zip(found, gradients, strict=True):
        assert_same(a, b, 10 * tolerance)


@pytest.mark.parametrize("name", NAMED)
def test_every_rule_agrees(name: str) -> None:
    shape, call = NAMED[name][1]
    ours = call(dataclasses.replace(ball(shape, 0.3), rules=FAST_RULES))
    theirs = call(ball(shape, 0.3))
    assert ours.rules is FAST_RULES
    assert torch.equal(ours.clean, theirs.clean)
    for part in ("center", "radius"):
        torch.testing.assert_close(getattr(ours, part), getattr(theirs, part), rtol=1e-12, atol=1e-13)


number = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(st.lists(st.tuples(number, number.map(abs)), min_size=1, max_size=20))
@settings(deadline=None)
def test_relu_is_that_of_the_ends(pairs: list[tuple[float, float]]) -> None:
    center, radius = torch.tensor(pairs, dtype=DOUBLE).unbind(1)
    result = relu(Interval(center, center, radius, rules=FAST_RULES))
    unit = 1e-15 * (center.abs() + radius)
    assert ((result.lower - (center - radius).relu()).abs() <= unit).all()
    assert ((result.upper - (center + radius).relu()).abs() <= unit).all()
    # What the backward pass reads from the result.
    assert torch.equal(result.center > result.radius, center > radius)
    assert torch.equal(result.center > 0, center + radius > 0)


def test_relu_of_what_is_not_finite_or_nearly_so() -> None:
    center = torch.tensor([float("nan"), 3e38, 1.0, float("inf")])
    result = relu(Interval(center, center, torch.tensor([1.0, 3e38, float("inf"), 1.0]), rules=FAST_RULES))
    assert result.center.isnan().tolist() == [True, False, False, False]
    assert result.center[1:].tolist() == pytest.approx([3e38, float("inf"), float("inf")])


def layouts(size: int) -> list[tuple[Tensor, Tensor]]:
    """Centers and radii: both in rows, both in channels, differently, and cut out of larger tensors."""
    torch.manual_seed(0)
    whole = torch.randn(4, 6, size, size, dtype=DOUBLE), torch.rand(4, 6, size, size, dtype=DOUBLE)
    last = [part.contiguous(memory_format=torch.channels_last) for part in whole]
    return [whole, (last[0], last[1]), (whole[0], last[1]), (whole[0][:, ::2], whole[1][:, ::2])]


@pytest.mark.parametrize("layout", range(4))
@pytest.mark.parametrize("block", [101, 2**19])
def test_blocks_and_layouts_change_nothing(layout: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", block)
    center, radius = layouts(9)[layout]
    weight = torch.randn(center.shape, dtype=DOUBLE)
    found = []
    for rules in (RULES, FAST_RULES):
        parts = [
            part.detach().clone(memory_format=torch.preserve_format).requires_grad_() for part in (center, radius)
        ]
        tape: list[Any] = []
        result = rules[F.relu](Interval(parts[0], *parts, tape=tape, rules=rules))
        layer = tape[0] if rules is FAST_RULES else moments(tape[0])
        sums = [getattr(layer, f.name) for f in dataclasses.fields(layer)]
        balance = layer.active / layer.inactive + layer.active_squares / layer.inactive_squares
        value = (result.center * weight).sum() + (result.radius * weight.cos()).sum() + 1e3 * layer.radius * balance
        found.append([result.center, result.radius, *sums, *torch.autograd.grad(value, parts)])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_layers_with_units_of_one_kind_have_a_finite_gradient() -> None:
    for sign in (1.0, -1.0):
        center = (sign * torch.rand(8, 4, dtype=DOUBLE)).requires_grad_()
        tape: list[Any] = []
        box = Interval(center, center, torch.full_like(center, 1e-9), tape=tape, rules=FAST_RULES)
        relu(box)
        loss = relu_balance_loss(tape) + tightness_loss(tape, box)
        assert torch.autograd.grad(loss, center)[0].isfinite().all()
        assert relu_balance_loss(tape) == 0


class Counting(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("use", "convolutions"),
    [
        (lambda y, norm: norm(y), 3),
        (lambda y, norm: F.relu(y), 3),
        (lambda y, norm: F.relu(y) + y.flatten(1)[:, :1, None, None], 3),
        (lambda y, norm: norm(y) + y, 5),
        (lambda y, norm: norm(F.relu(y)), 3),
    ],
)
def test_nothing_is_computed_twice(use: Callable[[Any, nn.Module], Any], convolutions: int) -> None:
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(3, 4, 3, dtype=DOUBLE), nn.BatchNorm2d(4, dtype=DOUBLE)
    images = batch_for("mlp")["pixel_values"]
    with Counting() as counting:
        ours = use(layer(input_interval(images, EPS, rules=FAST_RULES)), norm)
    assert counting.calls["convolution"] == convolutions
    theirs = use(layer(input_interval(images, EPS)), norm)
    torch.testing.assert_close(ours.lower, theirs.lower, rtol=1e-12, atol=1e-12)


def test_proofs_never_use_another_table() -> None:
    model = make("cnn_small").eval()
    images = batch_for("cnn_small")["pixel_values"]
    plain, other = (
        propagate(model, input_interval(images, EPS, rounding=2.0**-53, rules=r)) for r in (None, FAST_RULES)
    )
    assert torch.equal(plain.lower, other.lower)
    with pytest.raises(UnsupportedOperation, match="no rule"):
        propagate(model, input_interval(images, EPS, rules={}))


def test_what_was_changed_in_place_is_not_used_again() -> None:
    layer = nn.Conv2d(3, 4, 3, dtype=DOUBLE)
    hidden = layer(input_interval(batch_for("mlp")["pixel_values"], EPS, rules=FAST_RULES))
    view = hidden[:, :]
    F.relu(hidden, inplace=True)
    for part in (hidden, view):
        with pytest.raises(UnsupportedOperation, match="after an in-place operation"):
            part + 1.0


def test_second_derivatives_are_refused() -> None:
    images = batch_for("cnn_small")["pixel_values"].requires_grad_()
    for rules in (RULES, FAST_RULES):
        bounds = propagate(make("cnn_small"), input_interval(images, EPS, rules=rules))
        if rules is RULES:
            torch.autograd.grad(bounds.lower.sum(), images, create_graph=True)
            continue
        with pytest.raises(UnsupportedOperation, match="second derivatives"):
            torch.autograd.grad(bounds.lower.sum(), images, create_graph=True)


def test_a_step_waits_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "check_labels", lambda *_: None)  # looks at labels that are on the CPU
    model = make("cnn7").train()
    with Counting() as counting:
        CertifiedObjective(EPS, ramp=lambda step: 0.5)(model, batch_for("cnn7"), 0)[0].backward()
    assert not counting.calls.keys() & {"_local_scalar_dense", "nonzero", "is_nonzero", "equal"}
    assert counting.calls["convolution"] == 15


def wrong_labels(value: int) -> dict[str, Tensor]:
    return {**batch_for("mlp"), "labels": torch.tensor([0, 1, 2, 3, 4, value])}


@pytest.mark.parametrize("value", [-1, 10])
def test_labels_that_are_none_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="class numbers"):
        CertifiedObjective(EPS, ramp=lambda step: 0.5)(make("mlp"), wrong_labels(value), 0)
