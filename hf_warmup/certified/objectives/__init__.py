"""What certified training minimizes, and the methods that it may train by."""

from hf_warmup.certified.objectives.adversary import TrainingAttack, worst_points
from hf_warmup.certified.objectives.losses import bounded_loss, network_input, robust_cross_entropy
from hf_warmup.certified.objectives.methods import CcIbp, CrownIbp, ExpIbp, Ibp, Method, MtlIbp, Sabr
from hf_warmup.certified.objectives.objective import LEAST_EPS, CertifiedObjective


__all__ = [
    "LEAST_EPS",
    "CcIbp",
    "CertifiedObjective",
    "CrownIbp",
    "ExpIbp",
    "Ibp",
    "Method",
    "MtlIbp",
    "Sabr",
    "TrainingAttack",
    "bounded_loss",
    "network_input",
    "robust_cross_entropy",
    "worst_points",
]
