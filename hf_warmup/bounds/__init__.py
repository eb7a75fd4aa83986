"""Interval bounds through unmodified PyTorch models."""

from hf_warmup.bounds.fast import FAST_RULES, Moments
from hf_warmup.bounds.interval import Interval, UnsupportedOperation
from hf_warmup.bounds.margins import margins
from hf_warmup.bounds.propagation import input_interval, propagate
from hf_warmup.bounds.provenance import Affine
from hf_warmup.bounds.rules import RULES


__all__ = [
    "FAST_RULES",
    "RULES",
    "Affine",
    "Interval",
    "Moments",
    "UnsupportedOperation",
    "input_interval",
    "margins",
    "propagate",
]
