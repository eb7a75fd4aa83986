"""The table: which rule bounds which torch operation. What is not in it raises.

Soundness of every entry is tested by sampling, at corners and by gradient search in float64; an entry without a case
fails its test.
"""

from hf_warmup.bounds.interval import RULES
from hf_warmup.bounds.rules import (
    affine,
    attention,
    contractions,
    conversions,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
    resampling,
    shape,
    softmax,
)


__all__ = ["RULES"]

for _room in (
    affine,
    attention,
    contractions,
    conversions,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
    resampling,
    shape,
    softmax,
):
    RULES.update(_room.TABLE)
