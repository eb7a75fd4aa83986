"""Config of `CertifiedForImageClassification`."""

from typing import Any

from transformers import PreTrainedConfig


ARCHITECTURES = ("cnn7", "wide_resnet8", "resnext", "cnn_small", "mlp")
BATCH_NORM = ("full", "conv", "none")


class CertifiedConfig(PreTrainedConfig):  # type: ignore[misc]
    """Config of a certified image classifier.

    Args:
        architecture (`str`, *optional*, defaults to `"cnn7"`):
            `cnn7`, `wide_resnet8` and `resnext` of Shi et al.; `cnn_small` (two convolutions) and `mlp`.
        image_size (`int`, *optional*, defaults to 32):
            Height and width in pixels.
        num_channels (`int`, *optional*, defaults to 3):
            1 for gray images, 3 for RGB.
        image_mean, image_std (`list[float]`, *optional*):
            Mean and deviation by which the model's first layer normalizes, one per channel; 0 and 1 by default. The
            model takes pixels in [0, 1].
        batch_norm (`str`, *optional*, defaults to `"full"`):
            `full`: after every convolution and hidden linear layer; `conv`: convolutions only; `none`.
        conv5_stride (`int`, *optional*, defaults to 1):
            `cnn7`: stride of the fifth convolution; 2 in the variant for TinyImageNet.
        widen_factor (`int`, *optional*, defaults to 8):
            `wide_resnet8`: stages have 16, 32, 64 times as many channels; 10 for TinyImageNet.
        stem_channels, bottleneck_width, blocks_per_stage (`int`, *optional*, defaults to 64, 32, 1):
            `resnext`: 16, 8 and 2 for TinyImageNet.
        hidden_sizes (`list[int]`, *optional*):
            `cnn_small`: channels of its convolutions, [32, 64]; `mlp`: its hidden layers, [256, 256].
        strides (`list[int]`, *optional*, defaults to `[2, 2]`):
            `cnn_small`: strides of its convolutions.
        dense_size (`int`, *optional*):
            Width of the hidden linear layer: 512, and 128 for `cnn_small`.

    Raises:
        ValueError: for an unknown architecture or a size, mean or deviation that cannot be.
    """

    model_type = "certified"

    def __init__(
        self,
        architecture: str = "cnn7",
        image_size: int = 32,
        num_channels: int = 3,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        batch_norm: str = "full",
        conv5_stride: int = 1,
        widen_factor: int = 8,
        stem_channels: int = 64,
        bottleneck_width: int = 32,
        blocks_per_stage: int = 1,
        hidden_sizes: list[int] | None = None,
        strides: list[int] | None = None,
        dense_size: int | None = None,
        num_labels: int = 10,
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        self.image_size = image_size
        self.num_channels = num_channels
        self._check_sizes("image_size", "num_channels")
        self.image_mean = list(image_mean) if image_mean is not None else [0.0] * num_channels
        self.image_std = list(image_std) if image_std is not None else [1.0] * num_channels
        self.batch_norm = batch_norm
        self.conv5_stride = conv5_stride
        self.widen_factor = widen_factor
        self.stem_channels = stem_channels
        self.bottleneck_width = bottleneck_width
        self.blocks_per_stage = blocks_per_stage
        if hidden_sizes is None:
            hidden_sizes = [256, 256] if architecture == "mlp" else [32, 64]
        if dense_size is None:
            dense_size = 128 if architecture == "cnn_small" else 512
        self.hidden_sizes, self.strides = hidden_sizes, [2, 2] if strides is None else strides
        self.dense_size = dense_size
        self._check_sizes("conv5_stride", "widen_factor", "stem_channels", "bottleneck_width", "blocks_per_stage")
        self._check_sizes("hidden_sizes", "strides", several=True)
        self._check_sizes("dense_size")
        # Ten labels is what the data sets of the field have; transformers' own default is two.
        if "id2label" not in kwargs:
            kwargs["num_labels"] = num_labels
        super().__init__(**kwargs)
        self._check()

    def _check_sizes(self, *names: str, several: bool = False) -> None:
        for name in names:
            value = getattr(self, name)
            sizes = value if several and isinstance(value, list | tuple) and value else [None] if several else [value]
            if any(type(size) is not int or size < 1 for size in sizes):
                wanted = "a list of whole numbers, each" if several else "a whole number,"
                raise ValueError(f"{name} must be {wanted} at least 1, got {value!r}.")
            if several:
                setattr(self, name, list(value))

    def _check(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}; got {self.architecture!r}.")
        if self.batch_norm not in BATCH_NORM:
            raise ValueError(f"batch_norm must be one of {', '.join(BATCH_NORM)}; got {self.batch_norm!r}.")
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(
                    f"{name} must have {self.num_channels} values, one per channel, got {len(getattr(self, name))}."
                )
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std must be positive, got {self.image_std}.")
        if self.architecture == "cnn_small" and len(self.strides) != len(self.hidden_sizes):
            raise ValueError(f"cnn_small has {len(self.hidden_sizes)} convolutions and {len(self.strides)} strides.")
