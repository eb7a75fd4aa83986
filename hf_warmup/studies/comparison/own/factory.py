"""A person's function that makes a Trainer: found by its name, called with an arm's arguments, its answer checked.

Deliberately absent: training.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from transformers import Trainer, TrainingArguments

from hf_warmup.errors import ConfigError, first_line, unknown_names


@dataclass(frozen=True)
class Made:
    """What a factory has made.

    Attributes:
        trainer: not yet trained.
        test: the data set that judges the final weights; None where there is none.
    """

    trainer: Trainer
    test: Any


def find_factory(name: str) -> Callable[..., Any]:
    """The function that `study.py:make_trainer` or `package.module:make_trainer` names.

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
    except Exception as error:  # whatever a module does when it is imported
        raise ConfigError(f"factory {name!r}: {place} cannot be imported ({described(error)}).") from None
    found = getattr(module, function, None)
    if not callable(found):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(
            f"factory {name!r}: {place} has no function {function}; it has {', '.join(functions) or 'none'}."
        )
    return found  # type: ignore[no-any-return]


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"factory: there is no file {path.absolute()}; paths are read from where you are.")
    # As `python FILE.py` would, so that it finds what stands beside it; under its own name, so that it can be pickled.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    present = sys.modules.get(path.stem)
    if present is not None and getattr(present, "__file__", None) == str(path.resolve()):
        return present
    if present is not None:
        raise ConfigError(f"factory: a module named {path.stem} is loaded already; give {path} another name.")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def make_arguments(factory: Callable[..., Any], values: Mapping[str, Any]) -> TrainingArguments:
    """The arguments that a factory is called with, of the class that its first parameter is annotated with.

    Raises:
        ConfigError: for values that this class does not take.
    """
    kind = _arguments_class(factory)
    if problem := unknown_names(values, [field.name for field in fields(kind) if field.init]):
        raise ConfigError(f"arguments: {kind.__name__} has {problem}.")
    try:
        return kind(**values)
    except Exception as error:  # transformers raises many kinds, all of which mean: these arguments cannot be used
        raise ConfigError(f"arguments: {kind.__name__} refuses them ({first_line(error)}).") from None


def _arguments_class(factory: Callable[..., Any]) -> type[TrainingArguments]:
    try:
        hints = get_type_hints(factory)
        first = next(iter(inspect.signature(factory).parameters))
    except (NameError, TypeError, ValueError, StopIteration):
        return TrainingArguments  # type: ignore[no-any-return]
    hint = hints.get(first)
    return hint if isinstance(hint, type) and issubclass(hint, TrainingArguments) else TrainingArguments


def call_factory(name: str, factory: Callable[..., Any], arguments: TrainingArguments) -> Made:
    """A factory's Trainer and test data: returned as a pair, or the Trainer with an attribute `test_dataset`.

    Raises:
        ConfigError: if it returns neither, or has changed what belongs to the arm.
    """
    found = factory(arguments)
    trainer, test = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(trainer, Trainer):
        raise ConfigError(
            f"factory {name!r} must return a transformers Trainer, or a pair of a Trainer and a test data set; it "
            f"returned {type(found).__name__}."
        )
    for key in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "seed", "output_dir"):
        wanted, present = getattr(arguments, key), getattr(trainer.args, key)
        if wanted != present:
            raise ConfigError(
                f"factory {name!r}: the Trainer has {key}={present!r}, and the arm asks for {wanted!r}; hand the "
                f"arguments on as they are."
            )
    return Made(trainer, test if test is not None else getattr(trainer, "test_dataset", None))


def described(error: BaseException) -> str:
    """An error with its kind, and the file and line in which it arose."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    place = f", {frames.tb_frame.f_code.co_filename}, line {frames.tb_lineno}" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{place}"
