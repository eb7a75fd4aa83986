"""Learning-rate warmup that needs no tuning, as a native part of the Hugging Face ecosystem.

Importing the package makes its schedules' names valid wherever transformers takes a scheduler's name.
"""

from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.loss_adaptive import LossAdaptiveScheduler, get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.registration import register_scheduler, registered_schedulers
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler, get_schedule
from hf_warmup.models.registration import register_models
from hf_warmup.schedules import (
    effective_warmup_period,
    exponential_warmup,
    linear_warmup,
    radam_warmup,
    untuned_exponential_warmup,
    untuned_linear_warmup,
)


__version__ = "0.1.0"

# What needs Accelerate is imported at first use: registration alone should cost a script little.
_LAZY = {
    "Certificate": "hf_warmup.certified",
    "CertifiedConfig": "hf_warmup.models",
    "CertifiedForImageClassification": "hf_warmup.models",
    "CertifiedObjective": "hf_warmup.certified",
    "EvaluationRecord": "hf_warmup.training",
    "SmoothnessProbe": "hf_warmup.smoothness",
    "StepRecord": "hf_warmup.training",
    "TrainConfig": "hf_warmup.training",
    "certified_radius": "hf_warmup.certified",
    "certify": "hf_warmup.certified",
    "fit_smoothness": "hf_warmup.smoothness",
    "make_accelerator": "hf_warmup.training.accelerator",
    "shuffled_loader": "hf_warmup.data.loaders",
    "train": "hf_warmup.training",
}

__all__ = [
    "Certificate",
    "CertifiedConfig",
    "CertifiedForImageClassification",
    "CertifiedObjective",
    "ConfigError",
    "EvaluationRecord",
    "LossAdaptiveScheduler",
    "SmoothnessProbe",
    "StepRecord",
    "TrainConfig",
    "WarmupScheduler",
    "__version__",
    "certified_radius",
    "certify",
    "effective_warmup_period",
    "exponential_warmup",
    "fit_smoothness",
    "get_loss_adaptive_schedule",
    "get_schedule",
    "linear_warmup",
    "make_accelerator",
    "radam_warmup",
    "register_scheduler",
    "registered_schedulers",
    "shuffled_loader",
    "train",
    "untuned_exponential_warmup",
    "untuned_linear_warmup",
]

register_models()


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'hf_warmup' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
