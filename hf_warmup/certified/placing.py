"""Where proofs are made, and of how many images at once."""

from dataclasses import dataclass

import torch
from accelerate import PartialState
from torch import Tensor, nn

from hf_warmup.bounds import input_interval, propagate
from hf_warmup.certified.attacks import pgd
from hf_warmup.certified.blocks import is_memory
from hf_warmup.certified.consistency import logits_of
from hf_warmup.certified.linear_stages import sizes_of
from hf_warmup.certified.requirements import exact_copy
from hf_warmup.errors import ConfigError
from hf_warmup.training.precision import proof_arithmetic


# The most images at once that are tried: more make nothing faster.
_MOST = {"cpu": 256, "cuda": 1024}
# Bytes that a batch may take on a CPU, whose memory others need as well.
_BYTES = 2**30


def proof_device(name: str) -> torch.device:
    """Where proofs are made: a GPU for "auto" if there is one that can, this process's own where there are several.

    Args:
        name: "auto", "cpu", "cuda", "mps", or one of several GPUs such as "cuda:1".

    Raises:
        ConfigError: for a device that is not there, or cannot make proofs.
    """
    try:
        wanted = torch.device("cuda" if name == "auto" else name)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device must be auto, cpu, cuda, mps or a GPU such as cuda:1, got {name!r}.")
    if wanted.type == "mps":
        raise ConfigError(
            "--device mps: proofs are made in float64, which Apple's GPUs do not have; prove with --device cpu."
        )
    if wanted.type == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ConfigError(f"--device {name}: no CUDA device is available; take --device cpu or auto.")
    if wanted.index is None:
        return PartialState().device if PartialState().num_processes > 1 else wanted
    if wanted.index >= count:
        raise ConfigError(f"--device {name}: of CUDA devices there are only {count}, from cuda:0 on.")
    if PartialState().num_processes > 1:
        raise ConfigError(f"--device {name}: each of several processes has a GPU of its own; take --device cuda.")
    return wanted


@dataclass(frozen=True)
class Placing:
    """Where and how a checkpoint is proven and attacked.

    By default as those of `model_cards` were: in other batches and on a GPU, float32 rounds the attack otherwise.

    Attributes:
        device: see `proof_device`.
        batch_size: as many as fit for None.
        radius_examples: of how many images radii are looked for, see `radii_of`.
        method: "ibp", intervals alone, or "cascade"; one that is proven again is proven by its certificate's.
    """

    device: str = "cpu"
    batch_size: int | None = 512
    radius_examples: int | None = None
    method: str = "ibp"

    @property
    def name(self) -> str:
        """What computes."""
        device = proof_device(self.device)
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()

    def put(self, model: nn.Module, image: Tensor) -> tuple[nn.Module, int]:
        """A model on the device, and the images at once, of which this is one, (1, C, H, W)."""
        device = proof_device(self.device)
        model, size = model.to(device), self.batch_size
        return model, size or fitting_batch(model, exact_copy(model), image.to(device))


AS_ON_CARDS = Placing()


def fitting_batch(model: nn.Module, exact: nn.Module, pixel_values: Tensor) -> int:
    """How many images fit into memory at once, for intervals in float64 and for an attack; a power of two.

    A GPU tries it; on a CPU, where what is taken is no longer there for others, it is estimated within 1 GiB.

    Args:
        model: in eval mode, in float32 or float64.
        exact: its copy in float64.
        pixel_values: an image or more, (B, C, H, W) in [0, 1], on the model's device.

    Raises:
        ValueError, UnsupportedOperation: as `certify`.
    """
    device = pixel_values.device
    size = _MOST.get(device.type, 256)
    if device.type == "cpu":
        with torch.no_grad(), proof_arithmetic(device):
            sizes = sizes_of(exact, pixel_values[:1].double())
        # An attack keeps every activation and its gradient, an interval pass a dozen numbers of the widest in float64.
        image = max(8 * sum(sizes), 100 * max(sizes))
        while size > 1 and size * image > _BYTES:
            size //= 2
        return size
    while size > 1 and not _fits(model, exact, pixel_values[:1], size):
        torch.cuda.empty_cache()
        size //= 2
    return size


def _fits(model: nn.Module, exact: nn.Module, image: Tensor, size: int) -> bool:
    """Whether so many copies of an image go through what takes most memory."""
    try:
        batch = image.repeat(size, *[1] * (image.dim() - 1))
        with torch.no_grad(), proof_arithmetic(image.device), torch.backends.cudnn.flags(enabled=False):
            propagate(exact, input_interval(batch.double(), 0.0, rounding=2.0**-53))
        rough = batch.to(next(model.parameters()).dtype)
        with torch.no_grad():
            labels = logits_of(model, rough).argmax(1)
        pgd(model, rough, labels, 2.0**-20, steps=1)
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        return False
    return True
