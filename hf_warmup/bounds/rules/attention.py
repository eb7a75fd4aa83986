"""Rules of attention, from those of its parts."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_warmup.bounds.interval import Interval, Rule, UnsupportedOperation, from_ends, made, shared
from hf_warmup.bounds.rules.affine import add, as_interval, linear
from hf_warmup.bounds.rules.contractions import matmul
from hf_warmup.bounds.rules.products import mul
from hf_warmup.bounds.rules.reductions import average
from hf_warmup.bounds.rules.softmax import softmax
from hf_warmup.bounds.rules.spelling import plain


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Interval:
    """`F.scaled_dot_product_attention` as products and a softmax, over the keys that the mask leaves."""
    if dropout_p > 0:
        raise UnsupportedOperation("attention with dropout has no rule; set its rate to 0")
    options: dict[str, Any] = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    arguments = (query, key, value, attn_mask)
    clean = F.scaled_dot_product_attention(*map(plain, arguments), **options)
    like = next(x for x in arguments if isinstance(x, Interval))
    query, key, value = (as_interval(x, like) for x in (query, key, value))
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    factor = scale if scale is not None else 1.0 / math.sqrt(query.shape[-1])
    scores = mul(matmul(query, key.transpose(-2, -1)), factor)
    mask = attn_mask
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    return shared(_mixed(softmax(_masked(scores, mask), -1), value), clean=clean)


def _masked(scores: Interval, mask: Any) -> Interval:
    if mask is None:
        return scores
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill(~mask, -math.inf)
    return add(scores, mask)


def _mixed(shares: Interval, value: Interval) -> Interval:
    """Means of values by shares, which add up to 1: between the least and the greatest of them, whatever the shares.

    As no share is negative, each product's corners are known from the value's sign alone, and sums of them are matrix
    products: of positive and of negative parts.
    """
    least, most = shares.lower.clamp(min=0), shares.upper
    low, high = value.lower, value.upper
    lower = torch.matmul(least, low.clamp(min=0)) + torch.matmul(most, low.clamp(max=0))
    upper = torch.matmul(most, high.clamp(min=0)) + torch.matmul(least, high.clamp(max=0))
    extent = torch.maximum(low.abs(), high.abs())
    magnitude = 2 * torch.matmul(most, extent) if shares.rounding else None
    clean, center, radius = torch.matmul(shares.clean, value.clean), (lower + upper) / 2, (upper - lower) / 2
    result = made(shares, clean, center, radius, magnitude=magnitude, terms=shares.shape[-1] + 6)
    lower = torch.maximum(result.lower, low.amin(-2, keepdim=True))
    upper = torch.minimum(result.upper, high.amax(-2, keepdim=True))
    return from_ends(result, clean, lower, upper)


def multi_head_attention(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    *others: Any,
    **options: Any,
) -> tuple[Interval, Interval | None]:
    """`F.multi_head_attention_forward`, which nn.MultiheadAttention calls, as projections around attention."""
    options = {**_DEFAULTS, **dict(zip(_DEFAULTS, others, strict=False)), **options}
    for name in ("bias_k", "bias_v", "static_k", "static_v", "add_zero_attn"):
        if options[name] is not None and options[name] is not False:
            raise UnsupportedOperation(f"multi-head attention with {name} has no rule")
    if options["training"] and options["dropout_p"] > 0:
        raise UnsupportedOperation("attention with dropout has no rule; set its rate to 0")
    given = (query, key, value)
    fixed = (embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias)
    function: Callable[..., Any] = F.multi_head_attention_forward
    clean, clean_shares = function(*[plain(x) for x in given], *fixed, **options)
    like = next(x for x in given if isinstance(x, Interval))
    lifted = [as_interval(x, like) if x.dim() == 3 else as_interval(x, like).unsqueeze(1) for x in given]
    queries, keys, values = (_heads(x, num_heads) for x in _projected(lifted, in_proj_weight, in_proj_bias, options))
    scores = mul(matmul(queries, keys.transpose(-2, -1)), 1.0 / math.sqrt(queries.shape[-1]))
    shares = softmax(_masked(scores, _joined_masks(scores, num_heads, options)), -1)
    # (B, heads, places, D of a head) -> (places, B, D).
    mixed = _mixed(shares, values).permute(2, 0, 1, 3).flatten(2)
    result = linear(mixed, options["out_proj_weight"], options["out_proj_bias"]).reshape(clean.shape)
    if clean_shares is None:
        return shared(result, clean=clean), None
    mean = average(torch.mean)(shares, 1) if options["average_attn_weights"] else shares
    return shared(result, clean=clean), shared(mean.reshape(clean_shares.shape), clean=clean_shares)


# What follows the input projection's bias, in torch's order.
_DEFAULTS: dict[str, Any] = {
    "bias_k": None,
    "bias_v": None,
    "add_zero_attn": False,
    "dropout_p": 0.0,
    "out_proj_weight": None,
    "out_proj_bias": None,
    "training": True,
    "key_padding_mask": None,
    "need_weights": True,
    "attn_mask": None,
    "use_separate_proj_weight": False,
    "q_proj_weight": None,
    "k_proj_weight": None,
    "v_proj_weight": None,
    "static_k": None,
    "static_v": None,
    "average_attn_weights": True,
    "is_causal": False,
}


def _projected(inputs: list[Any], weight: Any, bias: Any, options: dict[str, Any]) -> list[Interval]:
    if options["use_separate_proj_weight"]:
        weights = [options[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = list(weight.chunk(3))
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return [linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]


def _heads(x: Interval, num_heads: int) -> Any:
    """(places, B, D) -> (B, heads, places, D of a head)."""
    return x.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)


def _joined_masks(scores: Interval, num_heads: int, options: dict[str, Any]) -> Tensor | None:
    """All masks as numbers to add to scores, (B, heads, queries, keys) or what is broadcast to it."""
    attn_mask, padding = options["attn_mask"], options["key_padding_mask"]
    if options["is_causal"] and padding is None and not options["need_weights"]:
        # Torch then takes the mask for a causal one without looking at it.
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    found: Tensor | None = None
    for mask, is_padding in ((attn_mask, False), (padding, True)):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            # Unlike those of attention itself, these masks say what is left out.
            zero = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
            mask = zero.masked_fill(mask, -math.inf)
        if is_padding:
            mask = mask.view(-1, 1, 1, mask.shape[-1])
        elif mask.dim() == 3:
            mask = mask.view(-1, num_heads, *mask.shape[1:])
        found = mask if found is None else found + mask
    return found


TABLE: dict[Callable[..., Any], Rule] = {
    F.scaled_dot_product_attention: attention,
    F.multi_head_attention_forward: multi_head_attention,
}
