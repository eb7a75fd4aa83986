"""Every image classifier of transformers, as small as it can be built."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


LABELS = 3
_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
}
_TOWER = {"vision_config": {**_VIT, "projection_dim": 8}}
_SWIN = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "mlp_ratio": 2.0,
}
_STAGES = {"hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2, 2, 2, 2]}

# By the config's `model_type`. Left out: what takes no pixels (ImageGPT, Siglip2, ShieldGemma2), needs CUDA's natten
# (Dinat) or is a door to timm (TimmWrapper).
TINY: dict[str, tuple[dict[str, Any], int]] = {
    "beit": ({**_VIT, "use_relative_position_bias": True, "use_absolute_position_embeddings": True}, 16),
    "bit": ({**_STAGES, "embedding_size": 8, "num_groups": 2}, 32),
    "clip": (_TOWER, 16),
    "convnext": (_STAGES, 32),
    "convnextv2": (_STAGES, 32),
    "cvt": (
        # Its code wants a third stage of three blocks.
        {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3], "mlp_ratio": [2.0, 2.0, 2.0]},
        32,
    ),
    "data2vec-vision": ({**_VIT, "use_relative_position_bias": True, "out_indices": [0, 1, 1, 1]}, 16),
    "deit": (_VIT, 16),
    "dinov2": ({**_VIT, "mlp_ratio": 2}, 16),
    "dinov2_with_registers": ({**_VIT, "mlp_ratio": 2}, 16),
    "donut-swin": (_SWIN, 16),
    "efficientnet": ({"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}, 32),
    "focalnet": (
        {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 16], "focal_levels": [2, 2]},
        32,
    ),
    "hgnet_v2": (
        {
            "embedding_size": 8,
            "depths": [1, 1],
            "hidden_sizes": [8, 16],
            "stem_channels": [3, 8, 8],
            "stage_in_channels": [8, 16],
            "stage_mid_channels": [8, 8],
            "stage_out_channels": [16, 16],
            "stage_num_blocks": [1, 1],
            "stage_downsample": [False, True],
            "stage_downsample_strides": [2, 2],
            "stage_light_block": [False, True],
            "stage_kernel_size": [3, 5],
            "stage_numb_of_layers": [2, 2],
        },
        32,
    ),
    "hiera": (
        {
            "embed_dim": 8,
            "image_size": [32, 32],
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "masked_unit_size": [2, 2],
            "masked_unit_attention": [True, False],
            "mlp_ratio": 2.0,
        },
        32,
    ),
    "ijepa": (_VIT, 16),
    "levit": (
        {
            "image_size": 32,
            "hidden_sizes": [8, 16, 16],
            "num_attention_heads": [1, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
            "down_ops": [["Subsample", 4, 2, 2, 2, 2], ["Subsample", 4, 4, 2, 2, 2]],
        },
        32,
    ),
    "metaclip_2": (_TOWER, 16),
    "mobilenet_v1": ({"image_size": 32, "depth_multiplier": 0.25}, 32),
    "mobilenet_v2": ({"image_size": 32, "depth_multiplier": 0.25}, 32),
    "mobilevit": (
        {
            "image_size": 32,
            "hidden_sizes": [8, 8, 8],
            "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
        },
        64,
    ),
    "mobilevitv2": (
        {"image_size": 32, "width_multiplier": 0.125, "n_attn_blocks": [1, 1, 1], "base_attn_unit_dims": [64, 64, 64]},
        64,
    ),
    "perceiver": (
        {
            "num_latents": 4,
            "d_latents": 16,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 1,
            "image_size": 8,
        },
        8,
    ),
    "poolformer": (_STAGES, 32),
    "pp_lcnet": (
        {
            "block_configs": [[[3, 8, 8, 1, False]]] * 4 + [[[5, 8, 16, 2, True]]],
            "stem_channels": 8,
            "class_expand": 16,
        },
        16,
    ),
    "pvt": ({**_PYRAMID, "image_size": 32, "sequence_reduction_ratios": [4, 2, 1, 1]}, 32),
    "pvt_v2": ({**_PYRAMID, "image_size": 32, "sr_ratios": [4, 2, 1, 1]}, 32),
    "regnet": ({**_STAGES, "embedding_size": 8, "groups_width": 8}, 32),
    "resnet": ({**_STAGES, "embedding_size": 8}, 32),
    "segformer": ({**_PYRAMID, "sr_ratios": [4, 2, 1, 1]}, 32),
    "siglip": (_TOWER, 16),
    "swiftformer": ({"image_size": 32, "depths": [1, 1, 1, 1], "embed_dims": [8, 8, 8, 16], "mlp_ratio": 2}, 32),
    "swin": (_SWIN, 16),
    "swinv2": (_SWIN, 16),
    "textnet": (
        {
            "stem_out_channels": 8,
            "image_size": [32, 32],
            "conv_layer_kernel_sizes": [[[3, 3]], [[1, 3]], [[3, 1]], [[3, 3]]],
            "conv_layer_strides": [[2], [2], [1], [2]],
            "hidden_sizes": [8, 8, 8, 8, 16],
        },
        32,
    ),
    "vit": (_VIT, 16),
    "vit_msn": (_VIT, 16),
}


def classes() -> dict[str, tuple[type[PreTrainedConfig], type[nn.Module]]]:
    """The class of every image classifier of transformers by its name, with its config's class."""
    pairs = [
        (config, model)
        for config, models in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.items()
        for model in (models if isinstance(models, tuple) else (models,))
    ]
    return {model.__name__: (config, model) for config, model in pairs if config.model_type in TINY}


def built(name: str) -> tuple[nn.Module, int]:
    """A classifier in eval mode, in float64, with weights that let pixels through, and the side of its images."""
    config_class, model_class = classes()[name]
    settings, side = TINY[config_class.model_type]
    model = model_class(config_class(**settings, num_labels=LABELS)).double().eval()
    enliven(model)
    return (model if name != "PPLCNetForImageClassification" else LastState(model)), side


class LastState(nn.Module):
    """The logits of PPLCNet, which calls them its last hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Any) -> Any:
        return self.model(pixel_values).last_hidden_state


@torch.no_grad()
def enliven(model: nn.Module) -> None:
    """Weights as a trained network's: as they are initialized, many models answer the same whatever the image."""
    generator = torch.Generator().manual_seed(0)

    def random(like: torch.Tensor) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator).to(like.dtype)

    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_((2 * random(parameter) - 1) * (6.0 / parameter[0].numel()) ** 0.5)
        else:
            parameter.add_(0.2 * random(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(0.5 * random(buffer))
