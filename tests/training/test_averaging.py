"""Weights averaged along a run."""

import pytest
import torch
from torch import nn

from hf_warmup.training.averaging import WeightAverage


def test_average_is_that_of_every_second_update_behind_the_first_three() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    average = WeightAverage(model, optimizer, start=3, every=2)
    taken = []
    for step in range(1, 9):
        assert (average.model is None) == (step <= 5)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        taken += [model.weight.detach().clone()] if step in (5, 7) else []
    assert average.model is not None
    assert torch.equal(next(average.model.parameters()), (taken[0] + taken[1]) / 2)
    other = WeightAverage(nn.Linear(1, 1), optimizer, start=3, every=2)
    other.load_state_dict(average.state_dict())
    assert other.model is not None
    assert torch.equal(next(other.model.parameters()), next(average.model.parameters()))
    assert other.state_dict()["updates"] == 8


@pytest.mark.parametrize(("start", "every"), [(-1, 1), (0, 0)])
def test_lengths_that_cannot_be(start: int, every: int) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="at least"):
        WeightAverage(model, torch.optim.SGD(model.parameters()), start=start, every=every)
