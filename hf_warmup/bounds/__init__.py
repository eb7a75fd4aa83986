"""Interval bounds through unmodified PyTorch models."""

from hf_warmup.bounds.interval import Affine, Interval, UnsupportedOperation, input_interval, propagate
from hf_warmup.bounds.margins import margins
from hf_warmup.bounds.rules import RULES


__all__ = ["RULES", "Affine", "Interval", "UnsupportedOperation", "input_interval", "margins", "propagate"]
