"""The largest radius that is proven of each image, found without looking at what is decided."""

from typing import Any

import pytest
import torch
from test_certify import X, Y, two_layers
from torch import Tensor, nn

from hf_warmup import certified_radius, certify
from hf_warmup.certified import Verifier, parse_eps
from hf_warmup.certified.certificate import radii_in, radii_of
from hf_warmup.data.images import Images
from hf_warmup.data.splits import drawn


def test_radius_by_bisection() -> None:
    model = two_layers()
    radius = certified_radius(model, X, Y, eps_max=1, iterations=20)
    assert radius[1] == 0
    at = float(radius[0])
    assert bool(certify(model, X[:1], Y[:1], eps=at, method="ibp").verified)
    assert not bool(certify(model, X[:1], Y[:1], eps=at + 2e-6, method="ibp").verified)
    assert float(certified_radius(model, X, Y, eps_max=0.1, iterations=3)[0]) == parse_eps(0.1)


def test_a_search_looks_at_undecided_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Twenty images at each side of the edge between two classes, from just beside it to far away.
    model = nn.Linear(1, 2).double().eval()
    model.weight.data, model.bias.data = (torch.tensor(x, dtype=torch.float64) for x in ([[1], [0]], [0, 0.5]))
    away = 10 ** torch.linspace(-3.5, -0.31, 20, dtype=torch.float64)
    images = torch.cat([0.5 - away, 0.5 + away])[:, None]
    labels = model(images).argmax(1)
    labels[::4] = 1 - labels[::4]
    verifier, largest, steps = Verifier(model), 0.25, 8
    proven, denied = torch.zeros(40, dtype=torch.float64), torch.full((40,), largest, dtype=torch.float64)
    for _ in range(steps):
        middle = (proven + denied) / 2
        found = verifier.verified_at(images, labels, middle)
        proven, denied = torch.where(found, middle, proven), torch.where(found, denied, middle)
    proven[verifier.certify(images, labels, eps=largest).verified] = largest
    looked, real = list[int](), Verifier.verified_at

    def watched(self: Verifier, x: Tensor, *rest: Any, **options: Any) -> Tensor:
        looked.append(len(x))
        return real(self, x, *rest, **options)

    monkeypatch.setattr(Verifier, "verified_at", watched)
    assert torch.equal(certified_radius(model, images, labels, eps_max=largest, iterations=steps), proven)
    undecided = int(((proven < largest) & (model(images).argmax(1) == labels)).sum())
    doubtful = int(((proven < largest / 16) & (model(images).argmax(1) == labels)).sum())
    never = int(((proven == 0) & (model(images).argmax(1) == labels)).sum())
    assert looked == [undecided] * 4 + [doubtful] + [undecided - never] * 4
    assert 0 < never < doubtful < undecided < 30


def test_radii_of_some_images_are_those_of_all() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    images = Images(torch.randint(0, 256, (30, 1, 2, 2), dtype=torch.uint8), torch.arange(30) % 3, 255)
    whole, some = radii_of(model, images, 0.2), radii_of(model, images, 0.2, examples=7)
    chosen = drawn(30, 7)
    assert 0 < (whole[chosen] > 0).sum() < 7
    assert torch.equal(some[chosen], whole[chosen])
    assert some.isnan().sum() == 23
    assert radii_in({"images": {"radius": [0.5, None, 0.0]}}) == [0.5, 0.0]
