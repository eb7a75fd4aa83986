"""IBP initialization: weights drawn so that bounds keep their width from layer to layer.

An affine layer of fan-in n multiplies the mean width of bounds by `n E|w|`, and a ReLU halves it; `E|w| = 2 / n`, so a
standard deviation of `sqrt(2 pi) / n`, makes that 1. Where an affine layer follows the ReLU of a sum, the sum has
doubled the width, and the weights are halved. Source: Shi et al., arXiv 2103.17268, section 3.3.1.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


_ADDITIONS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_}
_RELUS = {F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_}
_AFFINES = {F.linear, F.conv1d, F.conv2d, torch.conv1d, torch.conv2d}


def ibp_std(weight: Tensor) -> float:
    """Standard deviation `sqrt(2 pi) / fan_in` of an affine layer's weights."""
    return math.sqrt(2 * math.pi) / math.prod(weight.shape[1:])


@torch.no_grad()
def ibp_init_(model: nn.Module, pixel_values: Tensor) -> None:
    """Draw the weights of all linear and convolutional layers but the last, the classifier, anew.

    Args:
        model: biases, normalization and the classifier keep what they have.
        pixel_values: one batch of the right shape, to see which layers follow a residual sum.

    Raises:
        ValueError: if the model has no such layer besides its classifier.
    """
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    if len(weights) < 2:
        raise ValueError("IBP initialization needs linear or convolutional layers besides the classifier.")
    after_sum = _weights_after_residual_sums(model, pixel_values)
    for weight in weights[:-1]:
        weight.normal_(0.0, ibp_std(weight) * (0.5 if any(weight is w for w in after_sum) else 1.0))


def _weights_after_residual_sums(model: nn.Module, pixel_values: Tensor) -> list[Tensor]:
    """Weights of the affine layers whose input is ReLU(a + b)."""
    was_training = model.training
    model.eval()  # running statistics are not to move
    recorder = _Recorder()
    with recorder:
        model(pixel_values)
    model.train(was_training)
    return recorder.weights


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.sums: list[Tensor] = []
        self.activated_sums: list[Tensor] = []
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Read before the call: an in-place ReLU makes its input its output.
        of_sum = func in _RELUS and any(args[0] is s for s in self.sums)
        if func in _AFFINES and any(args[0] is s for s in self.activated_sums):
            self.weights.append(args[1] if len(args) > 1 else kwargs["weight"])
        result = func(*args, **kwargs)
        if func in _ADDITIONS and all(isinstance(a, Tensor) and a.dim() > 1 for a in args[:2]):
            self.sums.append(result)
        elif of_sum:
            self.activated_sums.append(result)
        return result
