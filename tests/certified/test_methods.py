"""Methods of certified training: published vectors, limits that are IBP or adversarial training, gradients."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_warmup.certified.objectives import (
    CcIbp,
    CertifiedObjective,
    CrownIbp,
    ExpIbp,
    Ibp,
    Method,
    MtlIbp,
    Sabr,
    TrainingAttack,
    bounded_loss,
    robust_cross_entropy,
    worst_points,
)
from hf_warmup.certified.objectives.losses import Weights
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification


EPS = 0.1
ATTACK = TrainingAttack(steps=3)
BATCH = {
    "pixel_values": torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    "labels": torch.arange(8) % 4,
}
ALL = [
    Ibp(),
    CrownIbp(linear_weight=0.5),
    Sabr(0.4, attack=ATTACK),
    Sabr(0.4, relu_shrink=0.8, attack=ATTACK),
    *(kind(0.3, attack=ATTACK) for kind in (MtlIbp, CcIbp, ExpIbp)),
]


def ids(method: Any) -> str:
    return type(method).__name__


def make() -> CertifiedForImageClassification:
    torch.manual_seed(0)
    config = {"hidden_sizes": [2, 3], "strides": [1, 2], "dense_size": 6, "num_labels": 4, "image_std": [0.5]}
    model = CertifiedForImageClassification(
        CertifiedConfig(architecture="cnn_small", image_size=6, num_channels=1, **config)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    return model.double().train()


def loss_of(method: Method, *, model: nn.Module | None = None, share: float = 1.0, **options: Any) -> Tensor:
    model = make() if model is None else model
    torch.manual_seed(3)
    return CertifiedObjective(EPS, ramp=lambda step: share, method=method, **options)(model, BATCH, 0)[0]


class TwoLayers(nn.Module):
    """The specification's net of 11.1, on pixels that are moved by 0.1 so that no box leaves [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 3)
        for layer, weight, bias in (
            (self.first, [[1, -2], [3, 1]], [0.1, -0.4]),
            (self.second, [[1, 2], [-1, 0.5], [0.5, -1]], [0, 0.1, -0.2]),
        ):
            layer.weight.data, layer.bias.data = (torch.tensor(part, dtype=torch.float64) for part in (weight, bias))

    def forward(self, pixels: Any) -> Any:
        return self.second(F.relu(self.first(pixels.flatten(1) - 0.1)))


@pytest.mark.parametrize(
    ("share", "linear_weight", "margins"),
    [
        (0.25, 1.0, [1.35, 3.05]),
        (0.75, 1.0, [-0.45, 0.75]),
        (0.75, 0.0, [-0.075, 0.5625]),
    ],
)
def test_crown_ibp_of_the_specification(share: float, linear_weight: float, margins: list[float]) -> None:
    """11.1, at eps_max 0.4: what the loss becomes is the cross-entropy of these margins."""
    batch = {"pixel_values": torch.tensor([[[[0.6, 0.3]]]], dtype=torch.float64), "labels": torch.zeros(1).long()}
    objective = CertifiedObjective(
        0.4, ramp=lambda step: share, reg_weight=0.0, method=CrownIbp(linear_weight=linear_weight)
    )
    loss, metrics = objective(TwoLayers(), batch, 0)
    expected = robust_cross_entropy(torch.tensor([margins], dtype=torch.float64))
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-12)
    assert metrics["verified_accuracy"] == float(min(margins) > 0)


def test_linear_bounds_fade_with_the_radius() -> None:
    weights = [CrownIbp(0.2).linear_weight_at(share) for share in (0.0, 0.5, 1.0)]
    assert weights == pytest.approx([1.0, 0.6, 0.2])
    assert CrownIbp().linear_weight_at(1 - 1e-6) == 0.0
    assert Ibp().linear_weight_at(0.5) == 0.0
    assert loss_of(CrownIbp()) == loss_of(Ibp()), "at the full radius nothing is left of them"


@pytest.mark.parametrize("method", [Sabr(1.0, attack=ATTACK), MtlIbp(1.0), CcIbp(1.0), ExpIbp(1.0)], ids=ids)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_at_one_every_method_is_ibp(method: Method, share: float) -> None:
    assert method.attack is None
    assert loss_of(method, share=share) == loss_of(Ibp(), share=share)


@pytest.mark.parametrize("kind", [Sabr, MtlIbp, CcIbp, ExpIbp])
def test_at_zero_every_method_is_adversarial_training(kind: Any) -> None:
    """Cross-entropy at the points, normalized by the clean batch's statistics, which no layer else would use."""
    model = make()
    torch.manual_seed(3)
    points = worst_points(model, **BATCH, eps=EPS, attack=ATTACK)
    both = CertifiedForImageClassification(model.config).double().train()
    both.load_state_dict(model.state_dict())
    for module in both.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = partial(_by_first_half, module)  # type: ignore[method-assign]
    logits = both(torch.cat([BATCH["pixel_values"], points])).logits[8:]
    expected = F.cross_entropy(logits, BATCH["labels"])
    loss = loss_of(kind(0.0, attack=ATTACK), model=model)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(loss, list(model.parameters())),
        torch.autograd.grad(expected, list(both.parameters())),
        rtol=1e-8,
        atol=1e-12,
    )


def _by_first_half(layer: Any, x: Tensor) -> Tensor:
    clean = x[: len(x) // 2]
    over = [d for d in range(x.dim()) if d != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, variance = clean.mean(over).view(shape), clean.var(over, unbiased=False).view(shape)
    normalized = (x - mean) * torch.rsqrt(variance + layer.eps)
    return normalized * layer.weight.view(shape) + layer.bias.view(shape)


def test_blends_are_those_of_the_paper() -> None:
    proven = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attained = proven + 1.0
    hard, easy = robust_cross_entropy(proven), robust_cross_entropy(attained)
    assert MtlIbp(0.3).loss(proven, attained) == 0.3 * hard + 0.7 * easy
    assert ExpIbp(0.3).loss(proven, attained) == hard**0.3 * easy**0.7
    assert CcIbp(0.3).loss(proven, attained) == robust_cross_entropy(0.3 * proven + 0.7 * attained)
    infinite = torch.full_like(proven, -torch.inf)
    for kind in (MtlIbp, CcIbp, ExpIbp):
        assert kind(0.0).loss(infinite, attained) == easy


def test_expressive_losses_bound_each_other() -> None:
    """Proposition 4.2 of the paper: Exp-IBP <= MTL-IBP and CC-IBP <= MTL-IBP."""
    cc, exp, mtl = (float(loss_of(kind(0.3, attack=ATTACK)).detach()) for kind in (CcIbp, ExpIbp, MtlIbp))
    assert cc <= mtl
    assert exp <= mtl


def test_a_small_box_lies_within_the_whole_one_and_holds_the_point() -> None:
    x, eps = BATCH["pixel_values"], torch.tensor(EPS, dtype=torch.float64)
    points = (x + EPS * torch.randn_like(x).sign()).clamp(0, 1)
    box = Sabr(0.4).box(x, eps, points)
    low, high = (x - EPS).clamp(min=0), (x + EPS).clamp(max=1)
    assert (box.lower >= low - 1e-15).all()
    assert (box.upper <= high + 1e-15).all()
    assert ((box.lower <= points + 1e-15) & (points <= box.upper + 1e-15)).all()
    torch.testing.assert_close(box.radius, 0.4 * (high - low) / 2)
    assert box.clean is x


def test_shrinking_lowers_the_loss_of_a_small_box_and_keeps_the_regularizers_in_place() -> None:
    shrunk, plain = (loss_of(Sabr(0.4, relu_shrink=factor, attack=ATTACK)) for factor in (0.5, 1.0))
    assert shrunk < plain
    torch.manual_seed(3)
    objective = CertifiedObjective(EPS, ramp=lambda step: 0.5, method=ALL[3])
    assert {"tightness_loss", "relu_balance_loss"} < objective(make(), BATCH, 0)[1].keys()


@pytest.mark.parametrize("method", ALL, ids=ids)
def test_gradients_are_those_of_finite_differences(method: Method) -> None:
    model = make()
    points = None
    if method.attack is not None:
        points = worst_points(model, **BATCH, eps=EPS, attack=method.attack)
    one = torch.ones((), dtype=torch.float64)
    linear = 0.6 * one if isinstance(method, CrownIbp) else None
    weights = Weights(EPS * one, 0.8 * one, 0.2 * one, 0.5 * one, 0.5 * one, linear)
    rules = CertifiedObjective(EPS, ramp=lambda step: 1.0).rules

    def loss() -> Tensor:
        return bounded_loss(model, *BATCH.values(), weights, 0.5, rules, method, points)[0]

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    directions = [torch.randn(p.shape, generator=torch.Generator().manual_seed(5)).double() for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    ends = []
    for size in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += size * direction
        ends.append(float(loss().detach()))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("method", ALL, ids=ids)
def test_statistics_move_once_and_an_attack_leaves_no_trace(method: Method) -> None:
    model, plain = make(), make()
    loss_of(method, model=model)
    loss_of(Ibp(), model=plain)
    for (name, ours), theirs in zip(model.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_points_are_worse_than_the_image_and_follow_from_the_generator() -> None:
    model = make().eval()
    x, labels = BATCH.values()

    def found(eps: float = EPS) -> Tensor:
        torch.manual_seed(0)
        return worst_points(model, x, labels, eps, TrainingAttack(steps=12, restarts=2))

    points = found()
    assert torch.equal(points, found())
    assert ((points - x).abs() <= EPS).all()
    assert points.min() >= 0
    assert points.max() <= 1
    losses = [F.cross_entropy(model(part).logits, labels, reduction="none") for part in (x, points)]
    assert (losses[1] > losses[0]).all()
    assert torch.equal(found(0.0), x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sabr(1.5), "box_share must lie in"),
        (lambda: Sabr(0.5, relu_shrink=-1), "relu_shrink"),
        (lambda: MtlIbp(-0.1), "ibp_weight"),
        (lambda: CrownIbp(2), "linear_weight"),
        (lambda: TrainingAttack(steps=0), "steps must be positive"),
        (lambda: TrainingAttack(scale=-1.0), "scale must be positive"),
    ],
)
def test_what_cannot_be(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("method", [ALL[4], pytest.param(ALL[3], marks=pytest.mark.slow)], ids=ids)
def test_compiled_steps_are_the_same(
    method: Method, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model = make()
    other = copy.deepcopy(model)
    eager, compiled = (
        loss_of(method, model=each, share=0.5, compile_mode=mode) for each, mode in ((model, None), (other, "default"))
    )
    torch.testing.assert_close(compiled, eager, rtol=1e-10, atol=0)
    assert "without torch.compile" not in caplog.text
    (eager + compiled).backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)
