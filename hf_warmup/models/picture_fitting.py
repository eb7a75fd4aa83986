"""Pictures of any size made into those that a model takes, by its own image processor; what is certified are these.

The processor resizes and crops bytes; scaling and normalization are left out, for they are the model's first layer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.models.pixel_classifier import fits, read_processor, wanted_size
from hf_warmup.numpy_verifier.fields import PROCESSED, PROCESSING


@dataclass(frozen=True)
class Fitting:
    """What a model's image processor makes of pictures.

    Attributes:
        name: of the model, for messages.
        settings: of the processor, defaults included.
        processor: of transformers.
    """

    name: str
    settings: dict[str, Any]
    processor: Any

    @property
    def document(self) -> dict[str, Any]:
        """What a certificate says of it: the settings that decide which bytes come out."""
        # Before transformers knew backends, `is_fast` stood for torchvision's.
        usual = "torchvision" if getattr(self.processor, "is_fast", False) else "pil"
        backend = getattr(self.processor, "backend", None) or usual
        settings = {name: self.settings.get(name) for name in PROCESSING[2:]}
        found: dict[str, Any] = json.loads(json.dumps({"about": PROCESSED, "backend": str(backend), **settings}))
        return found

    def fits(self, height: int, width: int) -> bool:
        """Whether images of this size go into the model as they are."""
        return fits(wanted_size(self.settings), height, width)

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
        """Pixels of pictures, (B, C, H, W).

        Raises:
            ConfigError: if the processor fails, or gives no bytes.
        """
        try:
            found = self.processor(list(pictures), return_tensors="np", do_rescale=False, do_normalize=False)
            pixels = np.asarray(found["pixel_values"])
        except Exception as error:  # settings of the wrong kind make transformers and Pillow raise many kinds
            raise ConfigError(
                f"{self.name}: its image processor cannot make the pictures fit ({first_line(error)[:200]})."
            ) from None
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise ConfigError(
                f"{self.name}: its image processor gives {pixels.dtype} pixels of shape {pixels.shape}, expected "
                f"bytes of one size; resize the pictures to what the model takes."
            )
        return pixels


def load_fitting(name: str) -> Fitting | None:
    """What a model's image processor does to the size of pictures; None if it does nothing, or there is none.

    Raises:
        ConfigError: if it cannot be loaded or does something to pixels that is not understood.
    """
    settings = read_processor(name)
    if wanted_size(settings) is None:
        return None
    # By Pillow wherever it may be verified: torchvision rounds otherwise, and is not everywhere.
    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False, backend="pil")
    return Fitting(name, settings, processor)
