"""Metrics of certified models: local, offline, equal to what certificates say, and no margin taken for a proof."""

import functools
from fractions import Fraction
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_warmup import certified_radius, certify
from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
from hf_warmup.statistics.proportions import clopper_pearson
from hf_warmup.training.evaluation import METRICS


FLAGS = [("verified_accuracy", "verified", 1), ("pgd_accuracy", "broken", 0)]


@functools.cache
def load(name: str) -> Any:
    """A module, loaded once: hypothesis calls a test many times."""
    return evaluate.load(str(METRICS / name), keep_in_memory=True)


@pytest.mark.parametrize(("name", "feature", "good"), FLAGS)
@given(flags=st.lists(st.booleans(), min_size=1, max_size=30), confidence=st.sampled_from([0.5, 0.95]))
def test_shares_and_intervals(name: str, feature: str, good: int, flags: list[bool], confidence: float) -> None:
    found = load(name).compute(**{feature: flags}, confidence=confidence)
    count = sum(flag == good for flag in flags)
    assert found[name] == count / len(flags)
    interval = found[f"{name.removesuffix('_accuracy')}_interval"]
    assert tuple(interval) == clopper_pearson(count, len(flags), confidence=confidence)
    assert interval[0] <= found[name] <= interval[1]
    assert (found[f"num_{feature}"], found.get("num_examples", found.get("num_attacked"))) == (sum(flags), len(flags))


@pytest.mark.parametrize(("name", "feature", "good"), FLAGS)
def test_forms_of_flags(name: str, feature: str, good: int) -> None:
    metric = load(name)
    flags = [True, False, False, True, True]
    expected = metric.compute(**{feature: flags})
    for form in ([int(flag) for flag in flags], np.array(flags), torch.tensor(flags)):
        assert metric.compute(**{feature: form}) == expected
    metric.add_batch(**{feature: flags[:3]})
    metric.add_batch(**{feature: flags[3:]})
    assert metric.compute() == expected


@pytest.mark.parametrize(("name", "feature", "good"), FLAGS)
@pytest.mark.parametrize("wrong", [[-0.3, 0.2], [2], [True, None], [float("nan")], []])
def test_what_is_no_flag(name: str, feature: str, good: int, wrong: list[Any]) -> None:
    with pytest.raises(ValueError, match="must be true or false for each image|there is no image"):
        load(name).compute(**{feature: wrong})


RADII = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(radii=RADII, eps=st.lists(st.fractions(0, 1, max_denominator=255), max_size=4))
def test_radii(radii: list[float], eps: list[Fraction]) -> None:
    texts = [str(radius) for radius in eps]
    found = load("certified_radius").compute(radii=radii, eps=texts)
    assert found["certified_radius_mean"] == pytest.approx(np.mean(radii))
    assert found["certified_radius_median"] == np.median(radii)
    assert set(found["certified_accuracy"]) == set(texts)
    for text, radius in zip(texts, eps, strict=True):
        # Whoever is proven at a radius is so at any smaller one; where nothing is proven, not even at 0.
        expected = np.mean([proven > 0 and Fraction(proven) >= radius for proven in radii])
        assert found["certified_accuracy"][text] == pytest.approx(expected)
    shares = [found["certified_accuracy"][text] for text in sorted(texts, key=Fraction)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("wrong", [[-0.1], [1.5], [float("nan")], []])
def test_what_is_no_radius(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]|there is no image"):
        load("certified_radius").compute(radii=wrong)


def test_they_take_what_certification_gives() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"image_size": 8, "num_channels": 1, "num_labels": 3}
    model = CertifiedForImageClassification(CertifiedConfig("mlp", **options, hidden_sizes=[8])).eval()
    images = torch.rand(20, 1, 8, 8)
    labels = model(images).logits.argmax(1)
    certificate = certify(model, images, labels, eps="1/100")
    radii = certified_radius(model, images, labels, eps_max="1/10")
    assert 0 < int(certificate.verified.sum()) < 20
    share = load("verified_accuracy").compute(verified=certificate.verified)["verified_accuracy"]
    assert share == certificate.verified.double().mean()
    found = load("certified_radius").compute(radii=radii, eps=["1/100"])
    # Bisection finds a radius a little below the largest one.
    assert found["certified_accuracy"]["1/100"] == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("name", ["verified_accuracy", "pgd_accuracy", "certified_radius"])
def test_loading_by_file(name: str) -> None:
    assert evaluate.load(str(METRICS / name / f"{name}.py"), keep_in_memory=True).name == name
