"""The curvature that training meets: measured as it runs, and fitted as a function of the loss gap."""

from hf_warmup.smoothness.advice import Advice, advise
from hf_warmup.smoothness.curvature import largest_gradient_change, loss_gradient, top_hessian_eigenvalue
from hf_warmup.smoothness.fit import SmoothnessFit, fit_smoothness
from hf_warmup.smoothness.probe import SmoothnessProbe
from hf_warmup.smoothness.records import SmoothnessRecord


__all__ = [
    "Advice",
    "SmoothnessFit",
    "SmoothnessProbe",
    "SmoothnessRecord",
    "advise",
    "fit_smoothness",
    "largest_gradient_change",
    "loss_gradient",
    "top_hessian_eigenvalue",
]
