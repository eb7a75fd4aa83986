"""Data sets as tasks and as images: what they are called in a YAML, and the tensors that come of it."""

from hf_warmup.data.digits import digits_split


__all__ = ["digits_split"]
