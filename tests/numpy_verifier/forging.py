"""What the verifier by NumPy says of a certificate that was changed."""

from pathlib import Path
from typing import Any

from hf_warmup.data.images import Images
from hf_warmup.numpy_verifier.verifier import reprove


Certificate = dict[str, Any]


def problems(made: tuple[Path, Images, str], certificate: Certificate, **changes: Any) -> list[str]:
    folder, images, _ = made
    options = {"images": images.images.numpy(), "labels": images.labels.numpy(), "levels": images.levels}
    return reprove(changes.pop("folder", folder), certificate, **{**options, **changes})
