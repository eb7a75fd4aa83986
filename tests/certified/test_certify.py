"""Certificates and attacks: a proof is never broken, and what cannot be proven soundly is refused."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup import certify
from hf_warmup.bounds import UnsupportedOperation, input_interval, propagate
from hf_warmup.certified import parse_eps, pgd
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


def two_layers() -> nn.Module:
    """The network of specification 11.1, taking 2 features."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    values = [[[1, -2], [3, 1]], [0.1, -0.4], [[1, 2], [-1, 0.5], [0.5, -1]], [0, 0.1, -0.2]]
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.data = torch.tensor(value, dtype=torch.float64)
    return model.eval()


X, Y = torch.tensor([[0.5, 0.2], [0.5, 0.2]], dtype=torch.float64), torch.tensor([0, 1])


def test_worked_example() -> None:
    certificate = certify(two_layers(), X, Y, eps="0.1")
    assert certificate.margin.tolist() == pytest.approx([1.25, -3.45], abs=1e-12)
    assert certificate.verified.tolist() == [True, False]
    # Widened outward by the rounding bound: never above the exact value.
    assert Fraction(float(certificate.margin[0])) < Fraction(5, 4)
    # No clipping in the specification's example at .3; here x_2 - eps is cut at 0, which can only help.
    assert float(certify(two_layers(), X, Y, eps=0.3).margin[0]) >= 0.05


@st.composite
def networks(draw: Any) -> tuple[nn.Module, Tensor]:
    """A random chain of layers that classifies 6x6 images into 4 classes, with lively running statistics."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layers: list[nn.Module] = []
    channels, size = draw(st.integers(1, 3)), 6
    images = torch.rand(3, channels, size, size)
    for _ in range(draw(st.integers(0, 2))):
        width, stride = draw(st.integers(1, 6)), draw(st.integers(1, 2))
        layers.append(nn.Conv2d(channels, width, 3, stride=stride, padding=1))
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(width))
        layers.append(
            draw(st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ReLU6, nn.GELU, nn.SiLU]))()
        )
        channels, size = width, -(-size // stride)
    if size > 2 and draw(st.booleans()):
        layers.append(draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2))
        size //= 2
    layers += [nn.Flatten(), nn.Linear(channels * size * size, 8), nn.ReLU(), nn.Linear(8, 4)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(torch.rand(16, *images.shape[1:]))
    return model.eval().double(), images.double()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.floats(1e-4, 0.3))
def test_no_point_of_the_box_leaves_any_layers_bounds(network: tuple[nn.Module, Tensor], eps: float) -> None:
    model, images = network
    labels = model(images).argmax(1)
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    samples = low[:, None] + torch.rand(3, 500, *images.shape[1:], dtype=low.dtype) * (high - low)[:, None]
    corners = torch.where(torch.rand(3, 333, *images.shape[1:]) < 0.5, low[:, None], high[:, None])
    attacked = pgd(model, images, (labels + 1) % 4, eps, steps=10).pixel_values[:, None]
    points = torch.cat([samples, corners, attacked], dim=1)
    box, hidden = input_interval(images, eps, rounding=2.0**-53), points.flatten(0, 1)
    with torch.no_grad():
        for layer in model:
            box, hidden = propagate(layer, box), layer(hidden)
            inside = hidden.unflatten(0, points.shape[:2])
            assert bool((inside >= box.lower[:, None]).all())
            assert bool((inside <= box.upper[:, None]).all())
    certificate = certify(model, images, labels, eps=eps)
    margins = model(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    own = margins.gather(2, labels[:, None, None].expand(-1, margins.shape[1], 1))
    rivals = margins.scatter(2, labels[:, None, None].expand(-1, margins.shape[1], 1), -math.inf)
    assert bool(((own - rivals.amax(2, keepdim=True)).amin((1, 2)) >= certificate.margin).all())
    assert not bool((certificate.verified & pgd(model, images, labels, eps, restarts=2).broken).any())


@settings(max_examples=20, deadline=None)
@given(networks(), st.floats(1e-3, 0.1), st.permutations([0, 1, 2]))
def test_margins_fall_with_the_radius_and_do_not_depend_on_the_batch(
    network: tuple[nn.Module, Tensor], eps: float, order: list[int]
) -> None:
    model, images = network
    labels = model(images).argmax(1)
    small, large = (certify(model, images, labels, eps=e, method="ibp").margin for e in (eps, 2 * eps))
    assert bool((large <= small).all())
    shuffled = certify(model, images[order], labels[order], eps=eps, method="ibp", batch_size=2).margin
    assert torch.allclose(shuffled, small[order], rtol=1e-9, atol=1e-12)
    clean = model(images).detach()
    lead = clean.gather(1, labels[:, None])[:, 0] - clean.scatter(1, labels[:, None], -math.inf).amax(1)
    assert torch.allclose(certify(model, images, labels, eps=0).margin, lead, atol=1e-9)


def test_attack_finds_what_is_there_and_stays_in_the_box() -> None:
    torch.manual_seed(0)
    model = CertifiedForImageClassification(
        CertifiedConfig(architecture="mlp", image_size=4, num_channels=1, hidden_sizes=[16])
    ).eval()
    images = torch.rand(32, 1, 4, 4)
    labels = model(images).logits.argmax(1)
    attack = pgd(model, images, labels, 0.5, steps=60, restarts=3, generator=torch.Generator().manual_seed(0))
    assert attack.broken.float().mean() > 0.5
    assert float((attack.pixel_values - images).abs().max()) <= 0.5 + 1e-6
    assert 0 <= float(attack.pixel_values.min()) <= float(attack.pixel_values.max()) <= 1
    assert torch.equal(model(attack.pixel_values).logits.argmax(1) != labels, attack.broken)
    assert all(p.grad is None for p in model.parameters())
    assert pgd(model, images, (labels + 1) % 10, 0.0, steps=1).broken.all()


@pytest.mark.parametrize(
    ("eps", "expected"), [("8/255", Fraction(8, 255)), (0.3, Fraction(0.3)), ("0.1", Fraction(1, 10)), (0, 0)]
)
def test_radii_are_never_rounded_down(eps: Any, expected: Any) -> None:
    assert 0 <= Fraction(parse_eps(eps)) - expected < Fraction(1, 10**15)


@pytest.mark.parametrize("eps", [-0.1, "eight", "8/0", math.nan, math.inf, 8, None])
def test_radii_that_cannot_be(eps: Any) -> None:
    with pytest.raises(ValueError, match="eps must"):
        certify(two_layers(), X, Y, eps=eps)


class Rounded(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x.to(self.dtype) * 2.0, -1, dtype=self.dtype).to(x.dtype)


class Hard(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: (m.train(), x, y), "training mode"),
        (lambda m, x, y: (m, x + 1, y), r"lie in \[0, 1\]"),
        (lambda m, x, y: (m, x * math.nan, y), r"lie in \[0, 1\]"),
        (lambda m, x, y: (m, x, y + 5), r"class numbers in \[0, 3\)"),
        (lambda m, x, y: (m, x[:1], y), "one image per label"),
        (lambda m, x, y: (m, x[:0], y[:0]), "no image"),
        (lambda m, x, y: (m, (x * 255).long(), y), "floating point"),
        (lambda m, x, y: (m.bfloat16(), x, y), "bfloat16"),
    ],
)
def test_what_would_not_be_a_proof_is_refused(change: Any, message: str) -> None:
    model, x, y = change(two_layers(), X, Y)
    with pytest.raises(ValueError, match=message):
        certify(model, x, y, eps=0.1)


@contextmanager
def medium_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def bfloat16_convolutions() -> Iterator[None]:
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        yield
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


@contextmanager
def default(dtype: torch.dtype, device: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "surroundings",
    [
        lambda: torch.autocast("cpu"),
        torch.inference_mode,
        torch.enable_grad,
        medium_precision,
        bfloat16_convolutions,
        lambda: default(torch.float16, "cpu"),
        lambda: default(torch.float64, "meta"),
        deterministic,
    ],
)
def test_surroundings_change_no_margin(surroundings: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Softmax(1)).eval()
    images, labels = torch.rand(4, 1, 5, 5), torch.zeros(4, dtype=torch.long)
    expected = certify(model, images, labels, eps=0.001).margin
    before = torch.backends.mkldnn.conv.fp32_precision
    with surroundings():
        inside = torch.get_float32_matmul_precision()
        found = certify(model, images, labels, eps=0.001).margin
        assert torch.get_float32_matmul_precision() == inside
    assert torch.equal(found, expected)
    assert torch.backends.mkldnn.conv.fp32_precision == before


def test_numbers_that_are_flushed_to_zero_are_refused() -> None:
    torch.set_flush_denormal(True)
    try:
        with pytest.raises(ValueError, match=r"set_flush_denormal\(False\)"):
            certify(two_layers(), X, Y, eps=0.1)
    finally:
        torch.set_flush_denormal(False)


def test_what_has_no_rule_is_refused_whatever_the_images() -> None:
    # At this radius the pass in float32 denies all.
    model = nn.Sequential(*two_layers(), Rounded(torch.bfloat16)).eval().float()
    with pytest.raises(UnsupportedOperation, match="loses precision"):
        certify(model, X.float(), Y, eps=1)


def test_what_a_model_does_in_float32_is_bounded_in_float64() -> None:
    # Such as attention in transformers' own code, whose softmax is in float32.
    for layers in (two_layers().float(), two_layers()):
        plain, cast = (nn.Sequential(*layers, *more).eval() for more in ((nn.Flatten(),), (Rounded(torch.float32),)))
        x, dtype = X.to(layers[0].weight.dtype), layers[0].weight.dtype
        assert cast(x).dtype == dtype
        certificates = [certify(model, x, Y, eps=0.02) for model in (plain, cast)]
        assert certificates[0].verified.tolist() == certificates[1].verified.tolist()
        assert certificates[0].verified.any()


def test_refused_operations() -> None:
    with pytest.raises(UnsupportedOperation, match=r"fft.*module '3' of Sequential"):
        certify(nn.Sequential(*two_layers(), Hard()).eval(), X, Y, eps=0.1)
    model = CertifiedForImageClassification(CertifiedConfig(architecture="mlp", image_size=4)).eval()
    with pytest.raises(ValueError, match="3 channels, got 1"):
        certify(model, torch.rand(2, 1, 4, 4), Y, eps=0.1)
