"""Certified classifiers as transformers models: pixels in [0, 1] go in, normalization is the first layer.

So a perturbation radius is one number in pixel units. Mean and deviation are persistent buffers: transformers loads
models on the meta device, where anything else would come back as garbage and void every certificate silently.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from hf_warmup.models.architectures import build
from hf_warmup.models.configuration_certified import CertifiedConfig


class Normalization(nn.Module):
    """`(pixel_values - mean) / std`, per channel.

    Args:
        mean, std: one value per channel, in pixel units; std > 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self._values = {"mean": list(mean), "std": list(std)}
        for name, values in self._values.items():
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def reset_parameters(self) -> None:
        """Give the buffers their values again, after they were made without any."""
        for name, values in self._values.items():
            getattr(self, name).copy_(torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Images, (B, C, H, W), normalized."""
        return (pixel_values - self.mean) / self.std


class CertifiedForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """An image classifier whose predictions can be proven not to change within a radius; see `hf_warmup.certify`.

    Raises:
        ValueError: if images of another shape than the config's are given.
    """

    config_class = CertifiedConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"

    def __init__(self, config: CertifiedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.normalization = Normalization(config.image_mean, config.image_std)
        self.network = build(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d | nn.modules.batchnorm._BatchNorm | Normalization):
            module.reset_parameters()
        if self.config.architecture == "wide_resnet8" and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: Any, labels: Tensor | None = None, return_dict: bool | None = None) -> Any:
        """Logits, (B, K), and with labels, (B,), their mean cross-entropy.

        Args:
            pixel_values: (B, C, H, W) in [0, 1]; or an `Interval` of them, for bounds on the logits.
            labels: class numbers.
            return_dict: False gives a tuple.
        """
        expected = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"this model takes images of shape {expected} (channels, height, width), "
                f"got {tuple(pixel_values.shape[1:])}."
            )
        logits = self.network(self.normalization(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)
