"""Rule of scaled dot-product attention, from those of its parts."""

import math
from typing import Any

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
    """`F.scaled_dot_product_attention` as products and a softmax."""
    if is_causal or enable_gqa or dropout_p > 0:
        raise UnsupportedOperation("attention that is causal, grouped or with dropout has no rule")
    factor = scale if scale is not None else 1.0 / math.sqrt(query.shape[-1])
    scores = mul(matmul(query, key.transpose(-2, -1)), factor)
    if attn_mask is not None:
        raise UnsupportedOperation("attention with a mask has no rule")
    result = matmul(softmax(scores, -1), value)
    clean = F.scaled_dot_product_attention(query.clean, key.clean, value.clean, scale=scale)
    return shared(result, clean=clean)
