"""How many processes train together, and a mean over them; one where torch.distributed is not in use."""

import torch
from torch import Tensor


def num_processes() -> int:
    """Processes of torch's default group; 1 without one."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of `values` over all processes, which must all call this; `values` itself may be overwritten."""
    if num_processes() > 1:
        torch.distributed.all_reduce(values)
        values = values / num_processes()
    return values
