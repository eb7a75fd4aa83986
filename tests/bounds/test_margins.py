"""Margins of many classes: the same numbers part by part, in memory that does not grow with the batch."""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.bounds import margins as margins_of
from hf_warmup.bounds.exact import exactly


# Its name is also a function's.
MODULE = import_module("hf_warmup.bounds.margins")
BATCH, CLASSES, WIDTH = 5, 7, 6


class Fresh(TorchDispatchMode):
    """Counts results as large as an image's differences of weights that stand in memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, torch.Tensor)]
        places = {each.untyped_storage().data_ptr() for each in given}
        if isinstance(result, torch.Tensor) and result.numel() >= (CLASSES - 1) * WIDTH:
            self.count += result.untyped_storage().data_ptr() not in places
        return result


@pytest.mark.parametrize("rounding", [0.0, 2.0**-53])
@pytest.mark.parametrize("bias", [True, False])
def test_parts_give_the_same_numbers_in_the_same_memory(
    monkeypatch: pytest.MonkeyPatch, rounding: float, bias: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Linear(WIDTH, CLASSES, bias=bias, dtype=torch.float64)
    labels = torch.tensor([6, 0, 3, 3, 1])
    with torch.no_grad(), exactly():
        logits = propagate(
            model, input_interval(torch.rand(BATCH, WIDTH, dtype=torch.float64), 0.1, rounding=rounding)
        )
        whole = margins_of(logits, labels)
        counts = []
        for at_once in (1, 2):
            monkeypatch.setattr(MODULE, "_MOST_WEIGHTS", at_once * CLASSES * WIDTH)
            with Fresh() as fresh:
                assert torch.equal(margins_of(logits, labels), whole)
            counts.append(fresh.count)
    # The room, and once the magnitudes of the weights.
    assert max(counts) <= 2


def test_parts_pass_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, found = nn.Linear(WIDTH, CLASSES), []
    images, labels = torch.rand(BATCH, WIDTH), torch.tensor([6, 0, 3, 3, 1])
    for most in (2**21, CLASSES * WIDTH):
        monkeypatch.setattr(MODULE, "_MOST_WEIGHTS", most)
        model.zero_grad()
        margins_of(propagate(model, input_interval(images, 0.1)), labels).square().sum().backward()
        found.append(model.weight.grad.clone())
    torch.testing.assert_close(*found)
