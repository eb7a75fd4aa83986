"""Learning-rate warmup that needs no tuning, as a native part of the Hugging Face ecosystem.

Importing the package makes its schedules' names valid wherever transformers takes a scheduler's name.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_warmup._registry import after_import
from hf_warmup.errors import ConfigError
from hf_warmup.models.registration import register_models
from hf_warmup.schedules import (
    effective_warmup_period,
    exponential_warmup,
    linear_warmup,
    radam_warmup,
    untuned_exponential_warmup,
    untuned_linear_warmup,
)


if TYPE_CHECKING:
    from hf_warmup.certified import Certificate, CertifiedObjective, certified_radius, certify
    from hf_warmup.data.loaders import shuffled_loader
    from hf_warmup.lr_scheduler.loss_adaptive import LossAdaptiveScheduler, get_loss_adaptive_schedule
    from hf_warmup.lr_scheduler.registration import register_scheduler, registered_schedulers
    from hf_warmup.lr_scheduler.scheduler import WarmupScheduler, get_schedule
    from hf_warmup.models import CertifiedConfig, CertifiedForImageClassification
    from hf_warmup.report.running import ComparisonResult, compare
    from hf_warmup.smoothness import SmoothnessProbe, fit_smoothness
    from hf_warmup.statistics.scores import verdict
    from hf_warmup.statistics.sequential import Plan
    from hf_warmup.training import EvaluationRecord, StepRecord, TrainConfig, train
    from hf_warmup.training.accelerator import make_accelerator

__version__ = "0.2.0"

# What needs torch or transformers is imported at first use: importing this package should cost a script little.
_LAZY = {
    "Certificate": "hf_warmup.certified",
    "CertifiedConfig": "hf_warmup.models",
    "CertifiedForImageClassification": "hf_warmup.models",
    "CertifiedObjective": "hf_warmup.certified",
    "ComparisonResult": "hf_warmup.report.running",
    "EvaluationRecord": "hf_warmup.training",
    "LossAdaptiveScheduler": "hf_warmup.lr_scheduler.loss_adaptive",
    "Plan": "hf_warmup.statistics.sequential",
    "SmoothnessProbe": "hf_warmup.smoothness",
    "StepRecord": "hf_warmup.training",
    "TrainConfig": "hf_warmup.training",
    "WarmupScheduler": "hf_warmup.lr_scheduler.scheduler",
    "certified_radius": "hf_warmup.certified",
    "certify": "hf_warmup.certified",
    "compare": "hf_warmup.report.running",
    "fit_certified": "hf_warmup.studies.certification.fitting",
    "fit_smoothness": "hf_warmup.smoothness",
    "get_loss_adaptive_schedule": "hf_warmup.lr_scheduler.loss_adaptive",
    "get_schedule": "hf_warmup.lr_scheduler.scheduler",
    "make_accelerator": "hf_warmup.training.accelerator",
    "register_scheduler": "hf_warmup.lr_scheduler.registration",
    "registered_schedulers": "hf_warmup.lr_scheduler.registration",
    "shuffled_loader": "hf_warmup.data.loaders",
    "train": "hf_warmup.training",
    "verdict": "hf_warmup.statistics.scores",
}

__all__ = [
    "Certificate",
    "CertifiedConfig",
    "CertifiedForImageClassification",
    "CertifiedObjective",
    "ComparisonResult",
    "ConfigError",
    "EvaluationRecord",
    "LossAdaptiveScheduler",
    "Plan",
    "SmoothnessProbe",
    "StepRecord",
    "TrainConfig",
    "WarmupScheduler",
    "__version__",
    "certified_radius",
    "certify",
    "compare",
    "effective_warmup_period",
    "exponential_warmup",
    "fit_certified",
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
    "verdict",
]


def _register_schedulers(module: Any) -> None:
    # Both files are needed. The second imports the first, and is not complete while it does.
    if module.__name__ == "transformers.optimization" or "transformers.optimization" not in sys.modules:
        import_module("hf_warmup.lr_scheduler.registration")


def _watch_deepspeed(module: Any) -> None:
    import_module("hf_warmup.lr_scheduler.deepspeed_config").refuse_replaced_schedules(module)


# Whoever names a scheduler has imported one of these before.
after_import("transformers.trainer_utils", _register_schedulers)
after_import("transformers.optimization", _register_schedulers)
after_import("transformers.integrations.deepspeed", _watch_deepspeed)
register_models()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hf_warmup' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
