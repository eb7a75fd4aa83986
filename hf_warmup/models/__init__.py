"""Image classifiers built to be certified, as models, config and image processor of transformers."""

from hf_warmup.models.configuration_certified import CertifiedConfig
from hf_warmup.models.image_processing_certified import CertifiedImageProcessor
from hf_warmup.models.modeling_certified import CertifiedForImageClassification, Normalization


__all__ = ["CertifiedConfig", "CertifiedForImageClassification", "CertifiedImageProcessor", "Normalization"]
