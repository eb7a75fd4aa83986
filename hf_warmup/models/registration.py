"""Makes the Auto classes of transformers know certified models."""

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification, CertifiedImageProcessor


def register_models() -> None:
    """Register config, model and image processor; safe to repeat. Before transformers 5 only the schedules work."""
    if int(transformers.__version__.split(".")[0]) < 5:
        return
    AutoConfig.register(CertifiedConfig.model_type, CertifiedConfig, exist_ok=True)
    AutoModelForImageClassification.register(CertifiedConfig, CertifiedForImageClassification, exist_ok=True)
    AutoImageProcessor.register(CertifiedConfig, slow_image_processor_class=CertifiedImageProcessor, exist_ok=True)
