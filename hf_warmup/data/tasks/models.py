"""Models of tasks: from a checkpoint or from nothing, whole or by LoRA."""

import importlib.util
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from hf_warmup.data.config import ModelConfig
from hf_warmup.errors import ConfigError, first_line, unknown_names


def resolve_pretrained(name: str) -> str:
    """A model's name as transformers takes it; `package:NAME/FOLDER` becomes that installed package's folder.

    Raises:
        ConfigError: if the package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model {name!r}: package {package} is not installed: pip install {package.replace('_', '-')}."
        )
    return str(Path(spec.origin).parent / folder)


def pretrained_name(task: str, kind: str, model: ModelConfig, what: str) -> str:
    """The name of the checkpoint that a kind of task cannot do without.

    Raises:
        ConfigError: if there is none.
    """
    if model.pretrained is None:
        raise ConfigError(f"task {task}: kind {kind} needs model.pretrained, for its {what}.")
    return resolve_pretrained(model.pretrained)


def make_model(auto: Any, model: ModelConfig, fixed: dict[str, Any]) -> nn.Module:
    """A fresh model.

    Args:
        auto: one of transformers' AutoModelFor classes.
        model: what a person wrote of it.
        fixed: fields of its configuration that follow from the data.

    Raises:
        ConfigError: if it cannot be found or built.
    """
    if clash := sorted(name for name in fixed if model.config.get(name, fixed[name]) != fixed[name]):
        raise ConfigError(f"model.config.{clash[0]} is {fixed[clash[0]]}, as the data has it; remove it.")
    overrides = {**model.config, **fixed}
    made = _from_nothing(auto, model, overrides) if model.architecture else _from_checkpoint(auto, model, overrides)
    return made if model.peft is None else _with_lora(made, model.peft)


def _from_nothing(auto: Any, model: ModelConfig, overrides: dict[str, Any]) -> nn.Module:
    try:
        default = AutoConfig.for_model(model.architecture)
    except ValueError as error:
        raise ConfigError(f"model.architecture {model.architecture!r}: {first_line(error)[:200]}") from None
    _check_fields(default, model.config)
    try:
        config = AutoConfig.for_model(model.architecture, **overrides)
        made: nn.Module = auto.from_config(config)
    except Exception as error:  # transformers and torch raise many kinds, all of which mean: cannot be built
        raise ConfigError(
            f"model.config {model.config}: {model.architecture} cannot be built ({first_line(error)[:200]})."
        ) from None
    return made


def _from_checkpoint(auto: Any, model: ModelConfig, overrides: dict[str, Any]) -> nn.Module:
    name = resolve_pretrained(str(model.pretrained))
    if model.config:
        _check_fields(pretrained(AutoConfig, name), model.config)
    made, found = pretrained(
        auto, name, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **overrides
    )
    # A head of another number of classes begins anew; anything else that does not fit is a mistake.
    for key, theirs, ours in sorted(found["mismatched_keys"]):
        if list(theirs)[1:] != list(ours)[1:] or ours[0] != overrides.get("num_labels"):
            raise ConfigError(
                f"model {name!r} cannot be loaded: {key} is {tuple(theirs)}, but model.config {model.config} makes it "
                f"{tuple(ours)}."
            )
    model_made: nn.Module = made
    return model_made


def _with_lora(model: nn.Module, given: dict[str, Any]) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ConfigError('model.peft needs the package peft: pip install "hf-warmup[peft]".') from None
    if problem := unknown_names(given, set(LoraConfig.__dataclass_fields__)):
        raise ConfigError(f"model.peft: LoraConfig has {problem}.")
    # Heads that are not part of the checkpoint are trained as a whole.
    new = [name for name in ("classifier", "score") if hasattr(model, name)]
    try:
        made: nn.Module = get_peft_model(model, LoraConfig(**{"modules_to_save": new or None, **given}))
    except Exception as error:  # peft raises many kinds, all of which mean: it does not fit the model
        raise ConfigError(f"model.peft {given} cannot be used: {first_line(error)[:200]}") from None
    return made


def _check_fields(config: PreTrainedConfig, given: dict[str, Any]) -> None:
    """Refuse fields that a config does not have: transformers would keep them, and no model would read them."""
    known = {*config.to_dict(), *config.attribute_map}
    # Properties, such as num_labels, are in no dictionary.
    known |= {name for name in given if hasattr(config, name) and not callable(getattr(config, name))}
    if problem := unknown_names(given, known):
        raise ConfigError(f"model.config: {config.model_type} has {problem}.")
    for name, value in given.items():
        if name in ("id2label", "label2id"):
            raise ConfigError(f"model.config.{name} follows from the data; remove it.")
        # Fewer layers than none are none: transformers builds such a model, and it learns little.
        if name.startswith("num_") or name.endswith(("_size", "_layers", "_heads", "_layer", "_head")):
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not isinstance(number, bool) and number < 1:
                    raise ConfigError(f"model.config.{name} must be at least 1, got {number}.")


def pretrained(factory: Any, name: str, **options: Any) -> Any:
    """What a transformers class loads from a checkpoint.

    Raises:
        ConfigError: if it cannot be loaded.
    """
    try:
        return factory.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError) as e:
        raise ConfigError(f"model {name!r} cannot be loaded: {first_line(e)}") from None
