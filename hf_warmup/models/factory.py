"""A person's own function by its name, and the `nn.Module` that one makes, with weights in safetensors."""

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hf_warmup.bounds.propagation import logits_in
from hf_warmup.errors import ConfigError, first_line


# Lines of this package are no place of a person's mistake.
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def is_factory(name: str) -> bool:
    """Whether a model's name is that of a function, FILE.py:FUNCTION or MODULE:FUNCTION, and not of a folder."""
    return not Path(name).is_dir() and re.search(r":\w*$", name) is not None


def find_factory(name: str) -> Callable[..., Any]:
    """The function that `my_file.py:make_model` or `package.module:make_model` names; its file is run.

    Raises:
        ConfigError: if there is no such file, module or function; with the error of a file that cannot be imported.
    """
    place, separator, function = name.rpartition(":")
    if not separator or not place or not function.isidentifier():
        raise ConfigError(f"factory {name!r} must be FILE.py:FUNCTION or MODULE:FUNCTION.")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise ConfigError(f"factory {name!r}: {place} cannot be imported ({described(error)}).") from None
    found = getattr(module, function, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        functions = [key for key in own if callable(vars(module)[key]) and not key.startswith("_")]
        raise ConfigError(
            f"factory {name!r}: {place} has no function {function}; it has {', '.join(functions) or 'none'}."
        )
    return found  # type: ignore[no-any-return]


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"factory: there is no file {path.absolute()}; paths are read from where you are.")
    # As `python FILE.py` would, so that it finds what stands beside it; under its own name, so that it can be pickled.
    folder, whole = str(path.resolve().parent), str(path.resolve())
    present = sys.modules.get(path.stem)
    if present is not None and getattr(present, "__file__", None) == whole:
        return present
    if present is not None:
        raise ConfigError(f"factory: a module named {path.stem} is loaded already; give {path} another name.")
    spec = importlib.util.spec_from_file_location(path.stem, whole)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def make_own(name: str, settings: Mapping[str, Any] | None = None, *, weights: Path | None = None) -> nn.Module:
    """What a factory makes, in the mode and dtype that it is made in.

    Args:
        name: see `find_factory`.
        settings: its keyword arguments.
        weights: safetensors file that is loaded into it; None leaves what the factory gave.

    Raises:
        ConfigError: if there is no such factory, it fails or returns no module, or weights do not fit by name and
            shape.
    """
    factory, settings = find_factory(name), dict(settings or {})
    try:
        inspect.signature(factory).bind(**settings)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}=..." for key in settings) or "no arguments"
        raise ConfigError(f"factory {name!r} cannot be called with {given}: {first_line(error)}.") from None
    try:
        model = factory(**settings)
    except Exception as error:  # whatever a person's function does
        raise ConfigError(f"factory {name!r} failed ({described(error)}).") from None
    if not isinstance(model, nn.Module):
        hint = "; return an instance, not the class" if isinstance(model, type) else ""
        raise ConfigError(f"factory {name!r} must return a torch nn.Module, got {type(model).__name__}{hint}.")
    if weights is not None:
        load_weights(model, weights)
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a safetensors file that has exactly its names and shapes.

    Raises:
        ConfigError: if the file cannot be read, or a name or shape is not the model's.
    """
    if not path.is_file():
        raise ConfigError(f"--weights {path}: there is no such file.")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises many kinds
        raise ConfigError(
            f"--weights {path}: no safetensors file ({first_line(error)}). Other formats can run code when they are "
            "loaded: write one by safetensors.torch.save_model(model, path)."
        ) from None
    own = model.state_dict()
    # Of tensors that share memory `save_model` keeps one.
    places = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in own.items()}
    held = {places[name] for name in state if name in places}
    missing = sorted(name for name in own if name not in state and places[name] not in held)
    problems = [f"it lacks {_some(missing)}"] * bool(missing)
    unknown = sorted(state.keys() - own.keys())
    problems += [f"the model has no {_some(unknown)}"] * bool(unknown)
    for name in sorted(state.keys() & own.keys()):
        if state[name].shape != own[name].shape:
            problems.append(f"{name} is {tuple(state[name].shape)} there and {tuple(own[name].shape)} in the model")
    if problems:
        raise ConfigError(f"--weights {path} are not of this model: {'; '.join(problems[:3])}.")
    model.load_state_dict(state, strict=False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def state_digest(model: nn.Module) -> str:
    """SHA-256 of a model's weights as a safetensors file holds them."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(save(dict(sorted(state.items())))).hexdigest()


def code_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the Python files below a folder that have been imported, such as what a model's own file imports."""
    place = folder.resolve()
    names = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    found = [path for path in map(Path, filter(None, names)) if place in path.resolve().parents and path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def file_of(name: str) -> Path | None:
    """The file that a factory stands in; None where it has none."""
    found = getattr(sys.modules.get(find_factory(name).__module__), "__file__", None)
    return None if found is None else Path(found)


def logits_of_zeros(model: nn.Module, shape: tuple[int, ...], name: str) -> Tensor:
    """What a model in eval mode answers to one black image, (1, K).

    Args:
        model: its mode is restored.
        shape: channels, height and width.
        name: of the model, for messages.

    Raises:
        ConfigError: if it does not take such an image, or gives no logits.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameter = next(model.parameters(), torch.zeros(()))
    image = torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad():
            output = model.eval()(image)
    except Exception as error:  # whatever a person's module does
        size = " x ".join(map(str, shape))
        raise ConfigError(
            f"{name}: the model does not take images of {size} (channels x height x width), which the data has, "
            f"as its first argument ({described(error)[:300]})."
        ) from None
    finally:
        for module, training in modes:
            module.training = training
    logits = logits_in(output)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 1 or logits.shape[1] < 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"{name}: the model must return logits, (B, K) with K >= 2, or an output or a dictionary that has them as "
            f"`logits`; for one image it gave {got}."
        )
    return logits


def described(error: BaseException) -> str:
    """An error with its kind, and the last line outside of installed packages and this one at which it passed."""
    place, frames = "", error.__traceback__
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if "site-packages" not in file and not file.startswith(("<", _PACKAGE)):
            place = f", {file}, line {frames.tb_lineno}"
        frames = frames.tb_next
    return f"{type(error).__name__}: {first_line(error)}{place}"
