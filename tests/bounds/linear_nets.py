"""Small networks of float64 whose linear bounds are tried."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


DOUBLE = {"dtype": torch.float64}
UNIT = 2.0**-53


def two_layers() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1, -2], [3, 1]], **DOUBLE))
        net[0].bias.copy_(torch.tensor([0.1, -0.4], **DOUBLE))
        net[2].weight.copy_(torch.tensor([[1, 2], [-1, 0.5], [0.5, -1]], **DOUBLE))
        net[2].bias.copy_(torch.tensor([0, 0.1, -0.2], **DOUBLE))
    return net


def random_net(seed: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    activations: list[Callable[[], nn.Module]] = [
        nn.ReLU,
        lambda: nn.LeakyReLU(0.2),
        nn.Hardtanh,
        nn.ReLU6,
        nn.Sigmoid,
        nn.Tanh,
    ]
    make = activations[seed % len(activations)]
    net: nn.Module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), make(), Residual(4, make), Pool(seed), Concat(), make(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5),
    ).double()  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval(), torch.rand(3, 2, 6, 6, **DOUBLE)


class Residual(nn.Module):
    def __init__(self, channels: int, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.act = make()

    def forward(self, x: Any) -> Any:
        return self.act(self.two(self.act(self.one(x))) + x)


class Pool(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.pool = [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Identity()][seed % 4]

    def forward(self, x: Any) -> Any:
        return self.pool(x)


class Concat(nn.Module):
    def forward(self, x: Any) -> Any:
        left, right = x.chunk(2, 1)
        return torch.cat([left - right, right * 0.5, x, -left], 1)[:, :8]
