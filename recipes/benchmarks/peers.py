"""The same certified training step by auto_LiRPA, where it is installed: for comparison of cost, and of the numbers.

    pip install --no-deps auto_LiRPA && pip install appdirs graphviz

Its release 0.3 was written for older versions of NumPy and PyTorch; the few names that it misses are supplied here.
"""

import sys
import types
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_warmup.bounds import Interval
from hf_warmup.certified.objectives import robust_cross_entropy
from hf_warmup.certified.regularizers import relu_balance_loss, tightness_loss


def is_installed() -> bool:
    """Whether auto_LiRPA is there."""
    return find_spec("auto_LiRPA") is not None


def _import() -> tuple[Any, Any, Any, Any]:
    """BoundedModule, BoundedTensor, BoundRelu and PerturbationLpNorm."""
    from torch.onnx._internal.torchscript_exporter import _globals, utils

    sets = types.ModuleType("numpy.lib.arraysetops")
    sets.isin = np.isin  # type: ignore[attr-defined]
    sys.modules.setdefault("numpy.lib.arraysetops", sets)
    # Not the attributes of torch.onnx, which are other modules until these are imported.
    import_module("torch.onnx.utils")._optimize_graph = utils._optimize_graph  # type: ignore[attr-defined]
    helper: Any = import_module("torch.onnx.symbolic_helper")
    helper._set_opset_version = lambda version: setattr(_globals.GLOBALS, "export_onnx_opset_version", version)
    torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)  # type: ignore[attr-defined]
    from auto_LiRPA import BoundedModule, BoundedTensor
    from auto_LiRPA.bound_ops import BoundRelu
    from auto_LiRPA.perturbations import PerturbationLpNorm

    return BoundedModule, BoundedTensor, BoundRelu, PerturbationLpNorm


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


def lirpa_loss(model: nn.Module, batch: dict[str, Tensor], eps: float, reg_weight: float) -> Callable[[], Tensor]:
    """The loss of a batch by auto_LiRPA, with the model's own parameters.

    Clean pass first, whose statistics batch normalization takes for the bounds; margins with the last layer elided;
    regularizers of the pre-activation bounds that it has found.
    """
    BoundedModule, BoundedTensor, BoundRelu, PerturbationLpNorm = _import()
    images, labels = batch["pixel_values"].contiguous(), batch["labels"]
    bounded = BoundedModule(_Logits(model), images, bound_opts={"bn": {"mode": "forward"}}, device="cpu")
    bounded.train()
    ends = {"x_L": (images - eps).clamp(min=0.0), "x_U": (images + eps).clamp(max=1.0)}
    box = BoundedTensor(images, PerturbationLpNorm(norm=np.inf, eps=eps, **ends))
    one_hot = torch.eye(model.config.num_labels, dtype=images.dtype)
    others = torch.stack([torch.tensor([j for j in range(len(one_hot)) if j != int(label)]) for label in labels])
    differences = one_hot[labels].unsqueeze(1) - one_hot[others]
    layers = [node for node in bounded._modules.values() if isinstance(node, BoundRelu)]

    def loss_of() -> Tensor:
        bounded(box)
        lower, _ = bounded.compute_bounds(x=(box,), IBP=True, method=None, C=differences, bound_upper=False)
        found = robust_cross_entropy(lower)
        tape = [_interval(node.inputs[0].lower, node.inputs[0].upper) for node in layers]
        radius = (ends["x_U"] - ends["x_L"]) / 2 / model.normalization.std
        regularizers = tightness_loss(tape, Interval(radius, radius, radius)) + relu_balance_loss(tape)
        return found + reg_weight * regularizers

    return loss_of


def lirpa_margins(model: nn.Module, images: Tensor, labels: Tensor, eps: float, method: str) -> Callable[[], Tensor]:
    """Margins of a batch by auto_LiRPA's "CROWN-IBP" or "CROWN", with the model's own parameters."""
    BoundedModule, BoundedTensor, _, PerturbationLpNorm = _import()
    # Converting a model leaves it in eval mode.
    training = model.training
    # Where more than nine units in ten are undecided it would take all of them, and fails at CNN-7's convolutions.
    options = {"bn": {"mode": "forward"}, "minimum_sparsity": 1.0}
    bounded = BoundedModule(_Logits(model), images, bound_opts=options, device="cpu")
    bounded.train(training)
    ends = {"x_L": (images - eps).clamp(min=0.0), "x_U": (images + eps).clamp(max=1.0)}
    box = BoundedTensor(images, PerturbationLpNorm(norm=np.inf, eps=eps, **ends))
    one_hot = torch.eye(model.config.num_labels, dtype=images.dtype)
    others = torch.stack([torch.tensor([j for j in range(len(one_hot)) if j != int(label)]) for label in labels])
    differences = one_hot[labels].unsqueeze(1) - one_hot[others]

    def margins() -> Tensor:
        bounded(box)
        return bounded.compute_bounds(x=(box,), method=method, C=differences, bound_upper=False)[0]

    return margins


def _interval(lower: Tensor, upper: Tensor) -> Interval:
    center = (lower + upper) / 2
    return Interval(center, center, (upper - lower) / 2)
