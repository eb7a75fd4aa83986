"""Weights of a checkpoint that a Trainer has passed over, because they stand there under other names.

transformers 5 stores some models, such as ViT, under the names of older versions. `from_pretrained` translates them
back; `Trainer.train(resume_from_checkpoint=...)` and `load_best_model_at_end` do not (seen in 5.24): with a warning,
they leave the weights that the model has. Deliberately absent: optimizer and schedule, which carry no names.
"""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.modeling_utils import unwrap_model


def take_over_weights(model: Any, checkpoint: Path) -> None:
    """Fill a model with a checkpoint's weights where the checkpoint has names that the model has not.

    Args:
        model: that a Trainer trains; only transformers' own models translate names.
        checkpoint: a Trainer's folder.
    """
    model = unwrap_model(model)
    if not isinstance(model, PreTrainedModel) or not _names(checkpoint) - model.state_dict().keys():
        return
    stored = type(model).from_pretrained(checkpoint, config=model.config, dtype=model.dtype, local_files_only=True)
    model.load_state_dict(stored.state_dict())


def _names(checkpoint: Path) -> set[str]:
    names: set[str] = set()
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return names
