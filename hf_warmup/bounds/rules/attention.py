"""Rule of scaled dot-product attention, from those of its parts."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, UnsupportedOperation, shared
from hf_warmup.bounds.rules.products import matmul, mul
from hf_warmup.bounds.rules.reductions import softmax


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Interval:
    """`F.scaled_dot_product_attention` as products and a softmax, over the keys that the mask leaves."""
    if enable_gqa or dropout_p > 0:
        raise UnsupportedOperation("attention that is grouped or with dropout has no rule; set its rate to 0")
    if isinstance(attn_mask, Interval) or not all(isinstance(x, Interval) for x in (query, key, value)):
        raise UnsupportedOperation("attention of constants, or with a mask that is an interval, has no rule")
    factor = scale if scale is not None else 1.0 / math.sqrt(query.shape[-1])
    scores = mul(matmul(query, key.transpose(-2, -1)), factor)
    mask = attn_mask
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, -math.inf)
    if mask is not None:
        scores = scores + mask
    result = matmul(softmax(scores, -1), value)
    options: dict[str, Any] = {"attn_mask": attn_mask, "is_causal": is_causal, "scale": scale}
    clean = F.scaled_dot_product_attention(query.clean, key.clean, value.clean, **options)
    return shared(result, clean=clean)
