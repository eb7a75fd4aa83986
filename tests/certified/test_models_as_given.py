"""What a person's model may hold and do: refused in one line if it cannot be certified, certified if it can."""

import ctypes
import ctypes.util
import platform
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_warmup import certify
from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.certified import Verifier


class Holding(nn.Module):
    """A classifier that keeps something beside its weights, and does something to images first."""

    def __init__(self, function: Callable[[Any], Any] = lambda x: x, kept: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.function, self.kept = function, kept

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(self.function(x))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: torch.jit.trace(model, torch.rand(2, 8)), "a scripted model runs without its code"),
        (lambda model: model.to("meta"), "first.weight must be an ordinary dense tensor"),
        (
            lambda model: setattr(model.last, "weight", nn.Parameter(model.last.weight.to_sparse())),
            "last.weight must be",
        ),
        (lambda model: setattr(model, "last", nn.LazyLinear(3).eval()), "last.weight has no numbers yet"),
        (lambda model: setattr(model, "kept", threading.Lock()), "Holding cannot be copied, .*lock"),
        (lambda model: setattr(model, "kept", torch.ones(1, requires_grad=True) * 2), "Holding cannot be copied"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_cannot_be_taken_apart_are_refused(change: Callable[[Any], Any], reason: str) -> None:
    model = Holding().eval()
    changed = change(model)
    with pytest.raises(ValueError, match=reason):
        Verifier(model if changed is None else changed)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x // 0.1, "unsupported operand"),
        (lambda x: x + int(x.sum()), "int"),
        (lambda x: torch.as_tensor(x), "TypeError"),
        (lambda x: x if isinstance(x, Tensor) else 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_code_that_fails_with_bounds_alone_is_told_in_a_line(function: Callable[[Any], Any], reason: str) -> None:
    with pytest.raises(UnsupportedOperation, match=f"computes with tensors, but not with bounds on them .*{reason}"):
        certify(Holding(function).eval(), torch.rand(2, 8), torch.tensor([0, 1]), eps=0.01)


class InInferenceMode(Holding):
    @torch.inference_mode()
    def forward(self, x: Any) -> Any:
        return super().forward(x)


@pytest.mark.parametrize("method", ["cascade", "alpha-crown"])
@pytest.mark.parametrize("model", [InInferenceMode(), Holding(lambda x: x.detach())])
def test_models_without_gradients_are_certified_as_others_are(model: nn.Module, method: str) -> None:
    # At this radius there is work for the attack and for the search for slopes.
    images = torch.rand(24, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = Holding()(images).argmax(1)
    expected = certify(Holding().eval(), images, labels, eps=0.25, method=method)
    found = certify(model.eval(), images, labels, eps=0.25, method=method)
    assert found.verified.equal(expected.verified)
    assert 0 < int(found.verified.sum()) < 24
    assert found.method.count("alpha-crown") == expected.method.count("alpha-crown") > 0


def round_to(direction: str) -> bool:
    """Set the processor's rounding; whether it could be set."""
    codes = {"x86_64": (0, 0x400, 0x800, 0xC00), "aarch64": (0, 0x800000, 0x400000, 0xC00000)}
    names = ("nearest", "down", "up", "zero")
    library = ctypes.util.find_library("m")
    if library is None or platform.machine() not in codes:
        return False
    return bool(ctypes.CDLL(library).fesetround(codes[platform.machine()][names.index(direction)]) == 0)


@pytest.mark.parametrize("direction", ["down", "up", "zero"])
def test_other_rounding_than_to_nearest_is_refused(direction: str) -> None:
    try:
        if not round_to(direction):
            pytest.skip("this processor's rounding cannot be set here")
        with pytest.raises(ValueError, match="does not round to the nearest number"):
            certify(Holding().eval(), torch.full((2, 8), 0.5), torch.tensor([0, 1]), eps=0.01)
    finally:
        round_to("nearest")
