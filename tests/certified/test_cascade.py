"""The cascade: no stage proves more, no proof is broken, every counterexample is one, and what ends early says so."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_certify import X, Y, networks, two_layers
from torch import Tensor, nn

from hf_warmup import Certificate, certify
from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.certified import cascade, linear_stages, pgd
from hf_warmup.certified.cascade import METHODS, STAGES


def lead(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    logits = model.double()(points)
    return logits.gather(1, labels[:, None])[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.floats(1e-3, 0.2))
def test_cascade_proves_what_any_stage_proves_and_nothing_that_an_attack_breaks(
    network: tuple[nn.Module, Tensor], eps: float
) -> None:
    model, images = network
    labels = model(images).argmax(1)
    labels[2] = (labels[2] + 1) % 4
    each = {method: certify(model, images, labels, eps=eps, method=method) for method in METHODS}
    whole = each["cascade"]
    for method, found in each.items():
        assert bool((whole.verified >= found.verified).all()), method
        assert [name is not None for name in found.method] == found.verified.tolist()
        assert {name for name in found.method if name} <= set(METHODS[method])
    # What intervals prove keeps its margin.
    proven = each["ibp"].verified
    assert torch.equal(whole.margin[proven], each["ibp"].margin[proven])
    assert not bool((whole.verified & pgd(model, images, labels, eps, steps=50).broken).any())
    falsified = whole.falsified
    assert falsified is not None
    assert whole.counterexamples is not None
    assert not bool((falsified & whole.verified).any())
    assert bool(falsified[2]), "an image that is answered wrongly is its own counterexample"
    assert whole.counterexamples.dtype == torch.float64
    assert bool(((whole.counterexamples - images[falsified]).abs() <= eps).all())
    assert bool(((whole.counterexamples >= 0) & (whole.counterexamples <= 1)).all())
    assert bool((lead(model, whole.counterexamples, labels[falsified]) < 0).all())


def net() -> nn.Sequential:
    """Of 60 random images every stage proves some at 0.06."""
    torch.manual_seed(4)
    widths = [(9, 12), (12, 12), (12, 12)]
    hidden = [layer for pair in widths for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(12, 4)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    return model


def by(model: nn.Module, eps: float, method: str = "cascade", **options: Any) -> Certificate:
    images = torch.rand(60, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        labels = model(images).argmax(1)
    return certify(model, images, labels, eps=eps, method=method, **options)


def test_each_stage_sees_what_the_one_before_left() -> None:
    told: list[tuple[str, int, int]] = []
    found = by(net(), 0.06, progress=lambda *each: told.append(each))
    # A stage tells of each of its batches, up to the last.
    batches = [list(group) for _, group in itertools.groupby(told, lambda each: (each[0], each[2]))]
    for group in batches:
        done = [each[1] for each in group]
        assert done == sorted(set(done))
        assert done[-1] == group[0][2]
    seen = [(group[0][0], group[0][2]) for group in batches]
    ibp, crown_ibp, crown, alpha = (found.method.count(stage) for stage in STAGES)
    assert min(ibp, crown_ibp, crown, alpha) > 0
    assert found.falsified is not None
    assert [stage for stage, _ in seen] == ["ibp", "pgd", "crown-ibp", "crown", "pgd", "alpha-crown"]
    totals = [total for _, total in seen]
    attacked = totals[1] - totals[2]
    assert totals[:5] == [60, 60 - ibp, 60 - ibp - attacked, totals[2] - crown_ibp, totals[3] - crown]
    assert totals[4] - totals[5] + attacked == found.falsified.sum() > 0
    assert set(found.seconds) == {*STAGES, "pgd"}
    assert (found.stopped, found.unrelaxed) == ({}, ())


def test_operations_without_lines_are_named_and_still_bounded() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, 4)).eval()
    by_intervals, found = (by(model, 0.002, method) for method in ("ibp", "crown"))
    assert found.unrelaxed == ("layer_norm",)
    assert bool((found.verified >= by_intervals.verified).all())
    assert bool(found.verified.any())


def test_an_operation_without_interval_is_refused() -> None:
    class Products(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.cumprod(x, 1)

    with pytest.raises(UnsupportedOperation, match="cumprod"):
        certify(nn.Sequential(*two_layers(), Products()).eval(), X, Y, eps=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exact"}, "method must be one of ibp, crown-ibp, crown, alpha-crown, cascade, got 'exact'"),
        ({"time_limit": 0.0}, "time_limit must be a positive number of seconds, got 0.0"),
        ({"batch_size": 0}, 'batch_size must be at least 1, or "auto", got 0'),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify(two_layers(), X, Y, eps=0.1, **options)


def test_time_ends_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    free = by(net(), 0.06)
    # A second passes with each look at the clock.
    clock = iter(range(10**6))
    monkeypatch.setattr(cascade.time, "monotonic", lambda: float(next(clock)))
    short = by(net(), 0.06, time_limit=12.0)
    assert short.stopped == {"crown-ibp": "time", "crown": "time", "pgd": "time", "alpha-crown": "time"}
    assert set(short.method) == {None, "ibp"}
    assert short.method.count("ibp") == free.method.count("ibp")


def test_memory_that_ends_makes_batches_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    free, sizes = by(net(), 0.06), list[int]()
    real = linear_stages.linear_stage

    def limited(stage: str, model: nn.Module, images: Tensor, *rest: Any) -> Tensor:
        if len(images) > most:
            raise torch.OutOfMemoryError("full")
        sizes.append(len(images))
        return real(stage, model, images, *rest)

    monkeypatch.setattr(cascade, "linear_stage", limited)
    most = 7
    assert by(net(), 0.06).method == free.method
    assert max(sizes) <= 7
    most = 0
    none = by(net(), 0.06)
    assert none.stopped == dict.fromkeys(STAGES[1:], "memory")
    assert set(none.method) == {None, "ibp"}


def test_a_stage_that_one_image_is_too_large_for_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three rivals times twelve units.
    for most, stopped in ((36, {}), (35, {"alpha-crown": "memory"})):
        monkeypatch.setitem(linear_stages._MOST, "alpha-crown", most)
        found = by(net(), 0.06)
        assert found.stopped == stopped
        assert ("alpha-crown" in found.method) == (most == 36)
