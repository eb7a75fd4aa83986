"""Certified training: what is minimized, where it starts and how the result is attacked and verified."""

from hf_warmup.bounds.radius import parse_eps
from hf_warmup.certified.attacks import Attack, pgd
from hf_warmup.certified.bound_health import LayerHealth, bound_health, warn_of_explosion
from hf_warmup.certified.cascade import certify
from hf_warmup.certified.initialization import ibp_init_
from hf_warmup.certified.objectives import (
    CcIbp,
    CertifiedObjective,
    CrownIbp,
    ExpIbp,
    Ibp,
    MtlIbp,
    Sabr,
    TrainingAttack,
    robust_cross_entropy,
)
from hf_warmup.certified.precise_batch_norm import precise_batch_norm_
from hf_warmup.certified.regularizers import relu_balance_loss, tightness_loss
from hf_warmup.certified.verifier import Certificate, Verifier, certified_radius


__all__ = [
    "Attack",
    "CcIbp",
    "Certificate",
    "CertifiedObjective",
    "CrownIbp",
    "ExpIbp",
    "Ibp",
    "LayerHealth",
    "MtlIbp",
    "Sabr",
    "TrainingAttack",
    "Verifier",
    "bound_health",
    "certified_radius",
    "certify",
    "ibp_init_",
    "parse_eps",
    "pgd",
    "precise_batch_norm_",
    "relu_balance_loss",
    "robust_cross_entropy",
    "tightness_loss",
    "warn_of_explosion",
]
