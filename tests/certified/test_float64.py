"""Proofs are made in float64: of models that can compute in it, and of images as they are now."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hf_warmup import certify
from hf_warmup.certified import Verifier


class Alone(nn.Module):
    """Calls something that is none of its modules, and so stays in float32 whatever becomes of the model."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(4, 4), between, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: nn.functional.linear(x, torch.ones(4, 4)),
        lambda x: nn.Linear(4, 4)(x),
        lambda x: x @ torch.ones(4, 4),
    ],
)
def test_numbers_that_stay_in_float32_are_told_of(between: Callable[[Tensor], Tensor]) -> None:
    model, x = Alone(between).eval(), torch.rand(3, 4)
    with pytest.raises(ValueError, match=r"cannot compute in float64.*register_buffer.*dtype=x\.dtype"):
        certify(model, x, model(x).argmax(1), eps=0)


def test_images_that_are_changed_in_place_are_bounded_anew() -> None:
    """Where float32 overflows, only the pass in float64 denies, and nothing of the tensor may be remembered."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 1), *(nn.Linear(n, 2, bias=False) for n in (1, 2, 2)), nn.Linear(2, 2)
    )
    with torch.no_grad():
        for layer, weight in zip(
            list(model)[1:],
            (
                [[1.0] * 4],
                [[3e38], [-3e38]],
                [[3e38, 0.0], [0.0, 3e38]],
                [[3e-39, 0.0], [0.0, 3e-39]],
                [[1e-38, 5e-39]] * 2,
            ),
            strict=True,
        ):
            layer.weight.copy_(torch.tensor(weight))
        model[5].weight[1] *= -1
        model[1].bias.fill_(-2.0)
        model[5].bias.zero_()
    verifier, images, labels = (
        Verifier(model.eval()),
        torch.full((1, 1, 2, 2), 0.9, dtype=torch.float64),
        torch.tensor([0]),
    )
    assert verifier.certify(images, labels, eps=0.1).verified.tolist() == [True]
    images.fill_(0.2)
    assert verifier.certify(images, labels, eps=0.1).verified.tolist() == [False]
