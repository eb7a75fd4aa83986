"""The arithmetic of a training step, and that of everything that is proven: float32 without shortcuts."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch


# TF32 (10 bits of significand) and bfloat16 (7) round a radius down as often as up: training only.
Precision = Literal["float32", "tf32", "bf16"]


@contextlib.contextmanager
def float32_arithmetic(*, tf32: bool = False) -> Iterator[None]:
    """Let matrix products and convolutions of float32 tensors use TF32 on a GPU, or, as by default, nowhere."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = tf32
    # Without a GPU "high" would mean yet another arithmetic.
    torch.set_float32_matmul_precision("high" if tf32 and torch.cuda.is_available() else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
