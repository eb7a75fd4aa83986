"""Running statistics of batch normalization as plain averages over the training set."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def precise_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every layer's running mean and variance to their averages over `batches` of images, weights unchanged.

    Args:
        model: left in the mode that it was in; a model without batch normalization is left alone.
        batches: (B, C, H, W) each, the whole training set.

    Raises:
        ValueError: if there is no batch.

    Source: as CTBench (arXiv 2406.04848) does after every epoch; Wu & Johnson, arXiv 2105.07576, section 3.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the cumulative average
    model.train()
    seen = 0
    for batch in batches:
        model(batch)
        seen += len(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for module, training in modes:
        module.training = training
    if not seen:
        raise ValueError("there is no batch to take statistics of; the model's are reset.")
