"""Image classifiers built to be certified, as models, config and image processor of transformers."""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from hf_warmup.models.configuration_certified import CertifiedConfig
    from hf_warmup.models.image_processing_certified import CertifiedImageProcessor
    from hf_warmup.models.modeling_certified import CertifiedForImageClassification, Normalization

# Imported at first use: whoever registers models needs none of them yet.
_LAZY = {
    "CertifiedConfig": "hf_warmup.models.configuration_certified",
    "CertifiedForImageClassification": "hf_warmup.models.modeling_certified",
    "CertifiedImageProcessor": "hf_warmup.models.image_processing_certified",
    "Normalization": "hf_warmup.models.modeling_certified",
}

__all__ = ["CertifiedConfig", "CertifiedForImageClassification", "CertifiedImageProcessor", "Normalization"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'hf_warmup.models' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
