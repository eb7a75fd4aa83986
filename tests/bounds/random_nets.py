"""Random networks over the table of rules: chains and branches of layers on images of a few channels."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


CHANNELS, SIDE, CLASSES = 4, 6, 3
Layer = Callable[[Any], Any]

# Of (B, C, H, W) to the same shape.
SMOOTH: dict[str, Layer] = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "abs": torch.abs,
    "square": lambda x: x * x,
    "pow": lambda x: torch.pow(x, 2),
    "exp": lambda x: torch.exp(-F.relu(x)),
    "log": lambda x: torch.log(x * x + 0.5),
    "sqrt": lambda x: torch.sqrt(x * x + 0.5),
    "reciprocal": lambda x: 1 / (x * x + 0.5),
    "clamp": lambda x: torch.clamp(x, -0.5, 0.7),
    "hardtanh": F.hardtanh,
    "gate": lambda x: x * torch.sigmoid(x),
    "product": lambda x: x * torch.tanh(x),
    "quotient": lambda x: x / (torch.exp(-F.relu(x)) + 0.5),
    "maximum": lambda x: torch.max(x, 0.3 * x),
    "minimum": lambda x: torch.min(x, 0.3 * x),
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "atan": torch.atan,
    "cubed": lambda x: x**3,
    "rsqrt": lambda x: torch.rsqrt(x * x + 0.5),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2, -0.3, 0.5, 1.2], dtype=x.dtype)),
}
MIXING: dict[str, Layer] = {
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "mean": lambda x: x - x.mean(1, keepdim=True),
    "sum": lambda x: x.sum(2, keepdim=True) * 0.2 + x,
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "max_pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "attention": lambda x: attention(x),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:], eps=1e-2),
    "group_norm": lambda x: F.group_norm(x, 2, eps=1e-2),
    "instance_norm": lambda x: F.instance_norm(x, eps=1e-2),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[2:], eps=1e-2),
    "normalize": lambda x: F.normalize(x, dim=1, eps=1e-2),
    "norm": lambda x: x / (x.norm(dim=1, keepdim=True) + 0.1),
    "amax": lambda x: x - 0.5 * x.amax((2, 3), keepdim=True),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bc", x, x)[..., None, None] * 0.02 + x,
    "scaled": lambda x: F.scaled_dot_product_attention(x, x, x),
    "bilinear": lambda x: F.interpolate(F.interpolate(x, scale_factor=2, mode="bilinear"), SIDE, mode="area"),
    "bicubic": lambda x: F.interpolate(x, SIDE + 2, mode="bicubic", align_corners=True)[..., 1:-1, 1:-1] - x,
    "topk": lambda x: x.topk(SIDE, 2).values,
    "flip": lambda x: torch.stack(list(x.unbind(1)), axis=1).flip(3).roll(1, 2),
    "where": lambda x: torch.where(torch.arange(SIDE) % 2 == 0, x, 0.5 * x.mT),
}  # fmt: skip
# What auto_LiRPA converts and bounds.
SHARED = {
    *("relu", "sigmoid", "tanh", "leaky_relu", "abs", "square", "pow", "exp", "log", "sqrt", "reciprocal"),
    *("gate", "product", "quotient", "maximum", "minimum", "softmax", "mean", "avg_pool", "max_pool"),
    *("attention", "sum", "silu", "atan", "cubed"),
}


def attention(x: Any) -> Any:
    """Attention in single steps, as eager code writes it."""
    tokens = x.flatten(2)
    shares = torch.softmax(torch.matmul(tokens, tokens.transpose(1, 2)) * 0.2, -1)
    return torch.matmul(shares, tokens).reshape(-1, CHANNELS, SIDE, SIDE)


class Net(nn.Module):
    """Convolutions with layers between them, some beside a branch that leaves them out; a linear layer ends it."""

    def __init__(self, seed: int, *, shared_only: bool = False, depth: int = 4) -> None:
        super().__init__()
        chance = random.Random(seed)
        torch.manual_seed(seed)
        every = {**SMOOTH, **MIXING}
        names = sorted(SHARED) if shared_only else sorted(every)
        self.names = [chance.choice(names) for _ in range(depth)]
        self.layers = [every[name] for name in self.names]
        self.residual = [chance.random() < 0.4 for _ in range(depth)]
        self.mixes = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, dtype=torch.float64) for _ in range(depth)
        )
        self.last = nn.Linear(CHANNELS * SIDE * SIDE, CLASSES, dtype=torch.float64)
        self.requires_grad_(False).eval()

    def forward(self, x: Any) -> Any:
        for mix, layer, residual in zip(self.mixes, self.layers, self.residual, strict=True):
            after = layer(mix(x))
            x = x + after if residual else after
        return self.last(x.flatten(1))
