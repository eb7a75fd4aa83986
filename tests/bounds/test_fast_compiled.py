"""Certified training steps through torch.compile: the same numbers, one graph for each phase, or none at all."""

import copy
import logging
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from test_fast_rules import EPS, assert_same, assert_same_gradients, batch_for, make
from torch import nn

from hf_warmup.certified import CertifiedObjective
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.run import compile_mode


# Torch makes an object of each function with a backward of its own, and warns of that itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")


@pytest.fixture
def backend() -> str:
    """Dynamo alone, which decides what is compiled again. A step through AOTAutograd too is in test_methods.py."""
    return "eager"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, backend: str) -> Counter[str]:
    """torch.compile without its slowest part, generating code; and what it counts."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.utils.counters.clear()
    return torch._dynamo.utils.counters["stats"]


def ramp(step: int) -> float:
    return step / 10


def compare_compiled(name: str, steps: list[int]) -> None:
    eager, compiled = (CertifiedObjective(EPS, ramp=ramp, compile_mode=mode) for mode in (None, "default"))
    plain = make(name).train()
    other = copy.deepcopy(plain)
    for step in steps:
        theirs, metrics = eager(plain, batch_for(name, step), step)
        ours, found = compiled(other, batch_for(name, step), step)
        (theirs + ours).backward()
        assert_same(ours.detach(), theirs.detach())
        assert found.keys() == metrics.keys()
        assert [float(value) for value in found.values()] == pytest.approx([float(v) for v in metrics.values()])
    assert_same_gradients(other, plain)
    for a, b in zip(other.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_nothing_is_compiled_again_while_radius_and_weights_move(graphs: Counter[str]) -> None:
    compare_compiled("mlp", [0, 1, 2, 5, 9, 10, 10])
    assert graphs["unique_graphs"] == 3  # radius 0, the ramp, the full radius


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager"])
@pytest.mark.parametrize("name", ["cnn7", "wide_resnet8", "resnext", "transformers"])
def test_compiled_networks_agree(name: str, graphs: Counter[str]) -> None:
    compare_compiled(name, [3, 4])
    assert graphs["unique_graphs"] == 1


def test_what_cannot_be_compiled_is_trained_without(graphs: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    class Breaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make("mlp")

        def forward(self, pixel_values: Any) -> Any:
            torch._dynamo.graph_break()
            return self.inner(pixel_values)

    objective = CertifiedObjective(EPS, ramp=ramp, compile_mode="default")
    model = Breaking()
    with caplog.at_level(logging.WARNING):
        losses = [objective(model, batch_for("mlp"), 3)[0] for _ in range(2)]
    assert [record.message.split(",")[0] for record in caplog.records] == ["Breaking is trained without torch.compile"]
    assert losses[0] == CertifiedObjective(EPS, ramp=ramp)(Breaking(), batch_for("mlp"), 3)[0] == losses[1]


@pytest.mark.parametrize(
    ("written", "expected"), [({}, None), ({"compile": False}, None), ({"compile": True}, "default")]
)
def test_a_recipe_may_ask_for_it(written: dict[str, bool], expected: str | None) -> None:
    study = CertifiedStudyConfig(
        name="x",
        reproduces="nothing",
        data={"name": "digits"},
        model={},
        eps="1/255",
        training={"epochs": 2, "ramp_epochs": 1.0, "batch_size": 8, **written},
        arms=[{"name": "ibp"}],
        seeds=[0],
    )
    assert compile_mode(study.training, torch.device("cpu")) == expected
    # No part of what the recipe is: a study begun without it may go on with it.
    assert "compile" not in study.model_dump()["training"]
