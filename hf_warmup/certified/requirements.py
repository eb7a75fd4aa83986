"""What is refused before anything is proven: by the model, by what surrounds it, by its images."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from hf_warmup.bounds import UnsupportedOperation
from hf_warmup.bounds.box import plain_tensor
from hf_warmup.errors import first_line


def check_model(model: nn.Module) -> None:
    """Raise ValueError for a model of which nothing could be proven, whatever its images."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}: wrap it in one.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a scripted model runs without its code, which bounds go through: give the module itself.")
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(f"the model is in training mode ({training[0]}): call model.eval() before certifying.")
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"batch normalization without running statistics ({name or type(module).__name__}) makes an image's "
                "logits depend on the other images of its batch, so nothing can be proven of it."
            )
        _check_constants(name or type(model).__name__, module)
    dtypes = {p.dtype for p in model.parameters()}
    if not dtypes:
        raise ValueError("the model has no parameters, so nothing says in which precision it computes.")
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        raise ValueError(
            f"the model's parameters must all be float32 or all float64, got {', '.join(sorted(map(str, dtypes)))}; "
            "load it in one of those."
        )
    for name, tensor in _stored(model):
        if is_lazy(tensor):
            raise ValueError(f"{name} has no numbers yet: call the model once, model(images), before certifying.")
        tensor = plain_tensor(name, tensor)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite, so nothing can be proven of the model.")


def exact_copy(model: nn.Module) -> nn.Module:
    """The model in float64, without gradients; raises ValueError if it cannot be copied."""
    try:
        found = copy.deepcopy(model)
    except Exception as error:  # whatever a person's model holds
        raise ValueError(
            f"{type(model).__name__} cannot be copied, and proofs are made with a copy in float64 (copy.deepcopy: "
            f"{first_line(error)}): keep open files, locks and results of computations out of the module."
        ) from error
    # Linear bounds are differentiated, but never for the weights.
    return found.double().requires_grad_(False)


def _stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _check_constants(name: str, module: nn.Module) -> None:
    """A weight that each pass computes anew is rounded where no rule sees it."""
    if parametrize.is_parametrized(module):
        raise ValueError(
            f"{name} computes its weights from others in each pass, and no bound covers the rounding of that: fix "
            'them first by torch.nn.utils.parametrize.remove_parametrizations(module, "weight").'
        )
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm):
            remedy = "remove_weight_norm" if isinstance(hook, WeightNorm) else "remove_spectral_norm"
            raise ValueError(
                f"{name} computes its weights from others in each pass, and no bound covers the rounding of that: fix "
                f"them first by torch.nn.utils.{remedy}(module)."
            )


def check_surroundings(device: torch.device) -> None:
    """Raise ValueError where numbers near zero are flushed to it, or not rounded to nearest, in any thread."""
    # As many as every thread takes its share of.
    shape, tiny = (2**16 * torch.get_num_threads(),), torch.finfo(torch.float64).tiny
    numbers = torch.full(shape, tiny, dtype=torch.float64, device=device)
    if not bool((numbers * 0.5 > 0).all()):
        raise ValueError(
            "torch.set_flush_denormal(True) is in force, which no bound on rounding covers: call "
            "torch.set_flush_denormal(False) at the start of the program."
        )
    if not bool(((1.0 + numbers == 1.0) & (1.0 - numbers == 1.0)).all()):
        raise ValueError(
            "the processor does not round to the nearest number, which every bound on rounding takes for granted: "
            "some code has called fesetround; call fesetround(FE_TONEAREST) before certifying."
        )


def check_batch(model: nn.Module, pixel_values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels as ordinary tensors; raises ValueError for those that cannot be certified."""
    if not isinstance(pixel_values, Tensor) or not isinstance(labels, Tensor):
        raise ValueError(
            "pixel_values and labels must be tensors, got "
            f"{type(pixel_values).__name__} and {type(labels).__name__}: use torch.tensor(...)."
        )
    pixel_values, labels = plain_tensor("pixel_values", pixel_values), plain_tensor("labels", labels)
    if not pixel_values.is_floating_point() or pixel_values.dim() < 2 or len(pixel_values) != len(labels):
        raise ValueError(
            f"pixel_values must be floating point, one image per label; got {pixel_values.dtype} of shape "
            f"{tuple(pixel_values.shape)} with {len(labels)} labels."
        )
    if len(labels) == 0:
        raise ValueError("there is no image to certify.")
    # NaN fails both comparisons.
    if not bool(((pixel_values >= 0) & (pixel_values <= 1)).all()):
        raise ValueError(
            f"pixel_values must lie in [0, 1]; they reach from {pixel_values.min().item():.4g} to "
            f"{pixel_values.max().item():.4g}. Normalization belongs into the model."
        )
    channels = _channels(model)
    if pixel_values.dim() == 4 and channels is not None and pixel_values.shape[1] != channels:
        raise ValueError(f"the model takes images of {channels} channels, got {pixel_values.shape[1]}.")
    return pixel_values, labels


@contextmanager
def called_with(model: nn.Module, pixel_values: Tensor) -> Iterator[None]:
    """In this context, an error of a model that cannot be called with images alone becomes one line that says so."""
    try:
        yield
    except (UnsupportedOperation, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a person's model does
        reason = _why_not(model, pixel_values)
        if reason is None and isinstance(error, ValueError):
            # Said by whoever compares, in a line of its own.
            raise
        if reason is None:
            raise UnsupportedOperation(
                f"{type(model).__name__} computes with tensors, but not with bounds on them "
                f"({type(error).__name__}: {first_line(error)}): in its forward, images may meet torch's functions "
                "alone, not Python's numbers, NumPy or torch.tensor"
            ) from error
        if any(words in reason for words in ("dtype", "scalar type")):
            raise ValueError(
                f"the model cannot compute in float64, in which proofs are made ({first_line(error)}): it uses a "
                "tensor that is neither a parameter nor a buffer, or makes one in another precision. Store it by "
                "self.register_buffer(...), or make it with dtype=x.dtype."
            ) from error
        names = ", ".join(inspect.signature(model.forward).parameters)
        raise ValueError(
            f"{type(model).__name__} cannot be called with images alone, model(pixel_values), of shape "
            f"{tuple(pixel_values.shape)} ({reason}): its forward takes ({names}). What is certified is a module "
            "whose forward takes pixel_values and returns logits: wrap it in one."
        ) from error


def _why_not(model: nn.Module, pixel_values: Tensor) -> str | None:
    try:
        model(pixel_values)
    except Exception as error:
        return f"{type(error).__name__}: {first_line(error)}"
    return None


def _channels(model: nn.Module) -> int | None:
    value = getattr(getattr(model, "config", None), "num_channels", None)
    return value if isinstance(value, int) else None
