"""Cross-entropy against the worst case."""

import torch
from torch import Tensor
from torch.nn import functional as F


def robust_cross_entropy(margins: Tensor) -> Tensor:
    """Mean of `log(1 + sum_j exp(-margin_j))`: cross-entropy if every rival were as close as its bound allows.

    Args:
        margins: lower bounds from `bounds.margins`, (B, K - 1).

    Source: Shi et al., arXiv 2103.17268, section 3.1; Wong & Kolter, arXiv 1711.00851, theorem 2.
    """
    worst = torch.cat([torch.zeros_like(margins[:, :1]), -margins], dim=1)
    return F.cross_entropy(worst, torch.zeros(len(margins), dtype=torch.long, device=margins.device))
