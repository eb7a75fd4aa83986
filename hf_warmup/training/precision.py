"""The arithmetic of a training step, and that of everything that is proven: float32 without shortcuts."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, cast

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


@contextlib.contextmanager
def proof_arithmetic(device: torch.device) -> Iterator[None]:
    """The arithmetic that dtypes name: no autocast, and no shortcuts in products of float32 on this device."""
    # These attributes of the modules are made at run time.
    cudnn, mkldnn = (cast(Any, part) for part in (torch.backends.cudnn, torch.backends.mkldnn))
    used = (cudnn.conv, torch.backends.cuda.matmul) if device.type == "cuda" else (mkldnn.conv, mkldnn.matmul)
    # Written to where it differs only, as what is written no longer follows `torch.backends.fp32_precision`.
    changed = [(each, each.fp32_precision) for each in used]
    changed = [(each, before) for each, before in changed if before not in ("ieee", "none")]
    for each, _ in changed:
        each.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for each, before in changed:
            each.fp32_precision = before
