"""From pictures to the pixels in [0, 1] that certified models take."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature


class CertifiedImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Converts pictures to gray or RGB, resizes them if need be (bilinear), and scales them to [0, 1].

    No normalization: that is the model's first layer. A certificate is about the resized pixels.

    Args:
        image_size: height and width in pixels.
        num_channels: 1 for gray, 3 for RGB.
    """

    model_input_names = ["pixel_values"]

    def __init__(self, image_size: int = 32, num_channels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size
        self.num_channels = num_channels

    def __call__(
        self, images: Any, return_tensors: str | None = None, do_rescale: bool = True, **_: Any
    ) -> BatchFeature:
        """`pixel_values`, (B, C, H, W), of one picture or a list: PIL images or uint8 arrays, (H, W) or (H, W, 3).

        Without `do_rescale` they are bytes.

        Raises:
            TypeError: for arrays that are not uint8.
        """
        pictures = images if isinstance(images, list | tuple) else [images]
        pixels = np.stack([self._pixels(picture) for picture in pictures])
        values = torch.from_numpy(pixels).movedim(-1, 1)
        if do_rescale:
            values = values.float() / 255
        return BatchFeature({"pixel_values": values if return_tensors == "pt" else values.numpy()})

    preprocess = __call__

    def _pixels(self, picture: Any) -> np.ndarray[Any, Any]:
        if not isinstance(picture, Image.Image):
            array = np.asarray(picture)
            if array.dtype != np.uint8:
                raise TypeError(f"pictures must be PIL images or uint8 arrays, got an array of {array.dtype}.")
            picture = Image.fromarray(array)
        picture = picture.convert("L" if self.num_channels == 1 else "RGB")
        if picture.size != (self.image_size, self.image_size):
            picture = picture.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(self.image_size, self.image_size, self.num_channels)
