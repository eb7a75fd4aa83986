"""How far an optimizer's step moved the parameters: the quantity by which Ma & Yarats explain why Adam needs warmup.

At the first update `|m_hat| / sqrt(v_hat)` is 1 for every parameter; later, when gradients oscillate about zero, it is
far below. `UpdateProbe` takes a copy before the step and reads the difference after it, so it works for any optimizer
and knows nothing of its state. Under sharding (FSDP) it speaks of the local shard.
"""

from dataclasses import dataclass

import torch


# Enough for a median good to about 1 %, few enough to sort at every step.
_MEDIAN_SAMPLE = 16_384


@dataclass(frozen=True)
class UpdateStatistics:
    """Magnitude of one update.

    Attributes:
        update_mean: mean over all parameters of |theta_after - theta_before|.
        update_ratio_mean: mean of |adaptive update| / learning rate, decoupled weight decay taken out; None where
            the learning rate is 0.
        update_ratio_median: the same ratio's median over a fixed, evenly spaced sample of the parameters.
    """

    update_mean: float
    update_ratio_mean: float | None
    update_ratio_median: float | None


class UpdateProbe:
    """Measures updates of an optimizer's parameters: call `before()`, step, call `after()`.

    Args:
        optimizer: a torch optimizer; its groups' `lr` and `weight_decay` at the time of `before()` are used.
        decoupled_weight_decay: whether `weight_decay` shrinks the weights directly, as in AdamW.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, decoupled_weight_decay: bool = True) -> None:
        # Of LoRA, for one, no bias is trained.
        self._groups = [group for group in optimizer.param_groups if group["params"]]
        self._decoupled = decoupled_weight_decay
        self._count = sum(p.numel() for group in self._groups for p in group["params"])
        self._stride = max(1, self._count // _MEDIAN_SAMPLE)
        self._copies: list[list[torch.Tensor]] = []
        self._rates: list[tuple[float, float]] = []

    @torch.no_grad()
    def before(self) -> None:
        """Remember the parameters and rates as they are."""
        self._copies = [[p.detach().clone() for p in group["params"]] for group in self._groups]
        decay = "weight_decay" if self._decoupled else ""
        self._rates = [(float(group["lr"]), float(group.get(decay, 0.0))) for group in self._groups]

    @torch.no_grad()
    def after(self) -> UpdateStatistics:
        """What has changed since `before()`."""
        moved = ratio = 0.0
        samples: list[torch.Tensor] = []
        for group, copies, (lr, weight_decay) in zip(self._groups, self._copies, self._rates, strict=True):
            params = [p.detach() for p in group["params"]]
            delta = torch._foreach_sub(params, copies)
            moved += _sum_abs(delta)
            if lr == 0.0:
                continue
            if weight_decay:
                torch._foreach_add_(delta, copies, alpha=lr * weight_decay)
            ratio += _sum_abs(delta) / lr
            samples += [d.flatten()[:: self._stride].abs().float() / lr for d in delta]
        self._copies = []
        mean = moved / self._count
        if not samples:
            return UpdateStatistics(mean, None, None)
        return UpdateStatistics(mean, ratio / self._count, float(torch.cat(samples).median()))


def _sum_abs(tensors: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> float:
    return float(torch.stack([norm.double() for norm in torch._foreach_norm(tensors, 1)]).sum())
