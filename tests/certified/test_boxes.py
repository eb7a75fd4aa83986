"""Boxes of any shape through every method: no point of one breaks a proof, and attacks stay inside."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_warmup import Certificate, certify
from hf_warmup.bounds.box import box_of
from hf_warmup.certified import Verifier, pgd
from hf_warmup.certified.cascade import METHODS


DOUBLE = torch.float64
SHAPE = (3, 4, 4)


def net(seed: int = 5) -> nn.Sequential:
    """Of random images every method proves some and leaves some within radii of 0.03."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, 4)]
    model = nn.Sequential(*layers).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    return model


def images(count: int = 24) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3))


def radii(count: int = 24) -> Tensor:
    """Up to 0.06, 0 in a third of the pixels."""
    generator = torch.Generator().manual_seed(4)
    each = 0.06 * torch.rand(count, *SHAPE, generator=generator, dtype=DOUBLE)
    return each * (torch.rand(count, *SHAPE, generator=generator) > 1 / 3)


# Ways to say a box around the images.
ASKED: dict[str, Any] = {
    "pixels": lambda x: {"eps": radii(len(x))},
    "channels": lambda x: {"eps": torch.tensor([0.0, 0.02, 0.05], dtype=DOUBLE)[:, None, None]},
    "images": lambda x: {"eps": torch.linspace(0, 0.05, len(x))},
    "ends": lambda x: {"lower": x.double() - radii(len(x)), "upper": x.double() + 0.01},
    "one-sided": lambda x: {"lower": x, "upper": x.double() + radii(len(x))},
}


def labels_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def leads(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    """How far the label leads at points (N, B, ...), (N, B)."""
    logits = model.double()(points.flatten(0, 1)).detach().unflatten(0, points.shape[:2])
    own = logits.gather(2, labels.expand(len(points), -1)[..., None])[..., 0]
    return own - logits.scatter(2, labels.expand(len(points), -1)[..., None], -torch.inf).amax(2)


def run(asked: str, method: str = "cascade") -> tuple[nn.Module, Tensor, Tensor, Certificate]:
    model, x = net(), images()
    labels = labels_of(model, x)
    return model, x, labels, certify(model, x, labels, method=method, **ASKED[asked](x))


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("method", METHODS)
def test_no_point_of_a_box_breaks_a_proof(method: str, asked: str) -> None:
    model, x, labels, found = run(asked, method)
    box = box_of(x, **ASKED[asked](x))
    assert 0 < found.verified.sum() < len(x)
    assert found.eps == box.largest_radius
    assert found.box is not None
    assert torch.equal(found.box.lower, box.lower)
    places = torch.rand(200, *x.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    places[::2] = places[::2].round()
    # The corners at which a linear network would be worst are the likeliest, PGD finds others.
    points = torch.minimum(box.lower + places * (box.upper - box.lower), box.upper)
    attacked = pgd(model.double(), box.pixel_values.double(), labels, box.to(DOUBLE), steps=30)
    everything = torch.cat([points, attacked.pixel_values[None]])
    assert bool((leads(model, everything, labels).amin(0) >= found.margin).all())
    assert not bool((attacked.broken & found.verified).any())
    assert found.falsified is not None
    assert found.counterexamples is not None
    if len(found.counterexamples):
        inside = box[found.falsified.nonzero().flatten()]
        assert inside.holds(found.counterexamples).all()
        assert bool((leads(model, found.counterexamples[None], labels[found.falsified]) < 0).all())


def test_the_cascade_refutes_within_boxes() -> None:
    falsified = run("one-sided")[-1].falsified
    assert falsified is not None
    assert falsified.sum() > 0, "the test above would look at no counterexample"


@pytest.mark.parametrize("method", METHODS)
def test_one_radius_said_by_a_tensor_is_that_radius(method: str) -> None:
    model, x = net(), images()
    labels = labels_of(model, x)
    plain = certify(model, x, labels, eps="3/100", method=method)
    for shape in ((len(x),), (1, 1, 1), (len(x), *SHAPE)):
        same = certify(model, x, labels, eps=torch.full(shape, plain.eps, dtype=DOUBLE), method=method)
        assert torch.equal(same.margin, plain.margin)
        assert (same.eps, same.method) == (plain.eps, plain.method)
        assert plain.counterexamples is not None
        assert same.counterexamples is not None
        assert torch.equal(same.counterexamples, plain.counterexamples)
    assert certify(model, x, labels, eps=torch.tensor(plain.eps), method="ibp").eps == torch.tensor(plain.eps).item()


def test_a_smaller_box_never_proves_less_by_intervals() -> None:
    model, x = net(), images()
    labels, wide = labels_of(model, x), radii()
    verifier, share = Verifier(model.double()), torch.rand(x.shape, generator=torch.Generator().manual_seed(6))
    large, small = (verifier.certify(x.double(), labels, eps=each).margin for each in (wide, wide * share))
    assert bool((small >= large).all())
    assert bool((small > large).any())
    ends = {"lower": x.double() - wide, "upper": x.double()}
    assert bool((verifier.certify(x.double(), labels, **ends).margin >= large).all())


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_may_change_the_clean_answer_is_proven(method: str) -> None:
    model, x = net(), images()
    labels = labels_of(model, x)
    labels[0] = (labels[0] + 1) % 4
    for asked in ({"eps": torch.zeros(SHAPE)}, {"lower": x, "upper": x}):
        found = certify(model, x, labels, method=method, **asked)
        assert found.verified.tolist() == [False] + [True] * (len(x) - 1)
        assert found.eps == 0
        clean = leads(model, x.double()[None], labels)[0]
        assert torch.allclose(found.margin[1:], clean[1:], atol=1e-9)
        model.float()


def test_attacks_do_not_move_what_may_not_change() -> None:
    model, x = net(), images()
    eps = torch.zeros(SHAPE, dtype=DOUBLE)
    eps[1, :2] = 0.5
    attack = pgd(model, x, labels_of(model, x), eps, steps=20)
    fixed = (eps == 0).expand(x.shape)
    assert torch.equal(attack.pixel_values[fixed], x[fixed])
    assert 0 < attack.broken.sum()
    # The model's float32 does not hold the second images.
    for exact in (x, x.double() * 0.9999):
        found = certify(model, exact, labels_of(model, exact.float()), eps=eps)
        assert found.counterexamples is not None
        assert found.falsified is not None
        assert found.falsified.sum() > 0
        away = found.counterexamples - exact[found.falsified].double()
        assert not away[fixed[found.falsified]].any()
        assert bool((away.abs() <= eps).all())


def test_a_box_that_lies_to_one_side_is_not_widened_to_both() -> None:
    model, x = net().double(), 0.3 + 0.4 * images().double()
    labels = labels_of(model, x)
    aside = certify(model, x, labels, lower=x, upper=x + 0.04, method="ibp").margin
    middle = certify(model, x + 0.02, labels, eps=0.02, method="ibp").margin
    hull = certify(model, x, labels, eps=0.04, method="ibp").margin
    both = (aside > 0) & (middle > 0)
    assert both.any()
    assert torch.allclose(aside[both], middle[both], atol=1e-9)
    assert bool((aside >= hull).all())
    assert aside.gt(0).sum() > hull.gt(0).sum()


def test_a_model_that_differs_within_the_box_alone_is_found() -> None:
    class OffCenter(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 30.0 * (x - 0.5).clamp(min=0) if isinstance(x, Tensor) else x

    model, x = nn.Sequential(OffCenter(), *net()).eval(), torch.full((4, *SHAPE), 0.5)
    labels, upward = labels_of(model, x), torch.full((4, *SHAPE), 0.55)
    with pytest.raises(ValueError, match="outside of their bounds|gives plain tensors other values"):
        certify(model, x, labels, lower=x, upper=upward)
    assert certify(model, x, labels, lower=x, upper=x).verified.all()
