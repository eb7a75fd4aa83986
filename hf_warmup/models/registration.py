"""Makes the Auto classes of transformers know certified models, at no cost until somebody uses one of them.

Registering needs the Auto classes and ours, which a script that only wants a schedule should not have to import. So it
waits, for each of the three files of Auto classes, until somebody imports that file.
"""

from typing import Any

from hf_warmup._registry import after_import


def register_models() -> None:
    """Have config, model and image processor registered when they can be; safe to repeat."""
    after_import("transformers.models.auto.configuration_auto", _register_config)
    after_import("transformers.models.auto.modeling_auto", _register_model)
    after_import("transformers.models.auto.image_processing_auto", _register_image_processor)


def _register_config(module: Any) -> None:
    if _is_supported():
        from hf_warmup.models.configuration_certified import CertifiedConfig

        module.AutoConfig.register(CertifiedConfig.model_type, CertifiedConfig, exist_ok=True)


def _register_model(module: Any) -> None:
    if _is_supported():
        from hf_warmup.models.configuration_certified import CertifiedConfig
        from hf_warmup.models.modeling_certified import CertifiedForImageClassification

        auto = module.AutoModelForImageClassification
        auto.register(CertifiedConfig, CertifiedForImageClassification, exist_ok=True)


def _register_image_processor(module: Any) -> None:
    if _is_supported():
        from hf_warmup.models.configuration_certified import CertifiedConfig
        from hf_warmup.models.image_processing_certified import CertifiedImageProcessor

        auto = module.AutoImageProcessor
        auto.register(CertifiedConfig, slow_image_processor_class=CertifiedImageProcessor, exist_ok=True)


def _is_supported() -> bool:
    """Before transformers 5 only the schedules work."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5
