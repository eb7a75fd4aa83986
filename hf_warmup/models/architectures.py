"""The networks themselves, as plain modules of layers whose operations all have a bound.

Every convolution and linear layer has a bias; batch normalization follows each but the classifier, before the ReLU.
Source: Shi et al., arXiv 2103.17268, section 3.3.2, and the layer lists of their published models.
"""

from torch import Tensor, nn

from hf_warmup.models.configuration_certified import CertifiedConfig


def build(config: CertifiedConfig) -> nn.Module:
    """The network of a config, from normalized images to logits."""
    builders = {
        "cnn7": _cnn7,
        "wide_resnet8": _wide_resnet8,
        "resnext": _resnext,
        "cnn_small": _cnn_small,
        "mlp": _mlp,
    }
    return builders[config.architecture](config)


def conv(
    config: CertifiedConfig, before: int, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution, padded to keep the size at stride 1, and its normalization."""
    layers: list[nn.Module] = [nn.Conv2d(before, channels, kernel, stride=stride, padding=kernel // 2, groups=groups)]
    return layers if config.batch_norm == "none" else [*layers, nn.BatchNorm2d(channels)]


def dense(config: CertifiedConfig, before: int, width: int) -> list[nn.Module]:
    """A hidden linear layer with its normalization and ReLU."""
    norm = [nn.BatchNorm1d(width)] if config.batch_norm == "full" else []
    return [nn.Linear(before, width), *norm, nn.ReLU()]


def _head(config: CertifiedConfig, channels: int, size: int) -> list[nn.Module]:
    flat = channels * size * size
    return [nn.Flatten(), *dense(config, flat, config.dense_size), nn.Linear(config.dense_size, config.num_labels)]


def _plain(config: CertifiedConfig, channels: list[int], strides: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    before, size = config.num_channels, config.image_size
    for width, stride in zip(channels, strides, strict=True):
        layers += [*conv(config, before, width, stride=stride), nn.ReLU()]
        before, size = width, -(-size // stride)
    return nn.Sequential(*layers, *_head(config, before, size))


def _cnn7(config: CertifiedConfig) -> nn.Module:
    return _plain(config, [64, 64, 128, 128, 128], [1, 1, 2, 1, config.conv5_stride])


def _cnn_small(config: CertifiedConfig) -> nn.Module:
    return _plain(config, config.hidden_sizes, config.strides)


def _mlp(config: CertifiedConfig) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    before = config.num_channels * config.image_size**2
    for width in config.hidden_sizes:
        layers += dense(config, before, width)
        before = width
    return nn.Sequential(*layers, nn.Linear(before, config.num_labels))


class ResidualBlock(nn.Module):
    """ReLU(branch(x) + shortcut(x))."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)
        self.relu = nn.ReLU()

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden state, (B, C, H, W), to hidden state."""
        result: Tensor = self.relu(self.branch(hidden) + self.shortcut(hidden))
        return result


def _basic_block(config: CertifiedConfig, before: int, channels: int, stride: int) -> nn.Module:
    first = conv(config, before, channels, stride=stride)
    branch = [*first, nn.ReLU(), *conv(config, channels, channels)]
    same = stride == 1 and before == channels
    return ResidualBlock(branch, [] if same else conv(config, before, channels, kernel=1, stride=stride))


def _bottleneck(config: CertifiedConfig, before: int, width: int, stride: int) -> nn.Module:
    narrow = conv(config, before, width, kernel=1)
    grouped = conv(config, width, width, stride=stride, groups=2)
    branch = [*narrow, nn.ReLU(), *grouped, nn.ReLU(), *conv(config, width, 2 * width, kernel=1)]
    same = stride == 1 and before == 2 * width
    return ResidualBlock(branch, [] if same else conv(config, before, 2 * width, kernel=1, stride=stride))


def _wide_resnet8(config: CertifiedConfig) -> nn.Module:
    stages = [factor * config.widen_factor for factor in (16, 32, 64)]
    layers = [*conv(config, config.num_channels, 16), nn.ReLU()]
    for before, channels, stride in zip([16, *stages], stages, (1, 2, 2), strict=False):
        layers.append(_basic_block(config, before, channels, stride))
    return nn.Sequential(*layers, *_head(config, stages[-1], -(-config.image_size // 4)))


def _resnext(config: CertifiedConfig) -> nn.Module:
    before = config.stem_channels
    layers = [*conv(config, config.num_channels, before), nn.ReLU()]
    for stage, stride in enumerate((1, 2, 2)):
        width = 2 * config.bottleneck_width * 2**stage
        for block in range(config.blocks_per_stage):
            layers.append(_bottleneck(config, before, width, stride if block == 0 else 1))
            before = 2 * width
    return nn.Sequential(*layers, *_head(config, before, -(-config.image_size // 4)))
