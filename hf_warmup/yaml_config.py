"""YAML files with strict types: unknown keys are errors, so that a misspelt key can not be silently ignored."""

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hf_warmup.errors import ConfigError


class Strict(BaseModel):
    """Base of all parts of a YAML: strict types, finite numbers, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML as `yaml.safe_load` does, but refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; raises ConstructorError for a key that is there already."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice in one mapping; keep one", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


Parsed = TypeVar("Parsed", bound=Strict)

# Names become files and folders: "." and ".." lead elsewhere.
Name = Annotated[str, Field(pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9_.-]*$")]
ArmName = Annotated[str, Field(pattern=r"^\.*[A-Za-z0-9_+-][A-Za-z0-9_.+-]*$")]

MOST_SEEDS = 10_000
# As pydantic calls the types that a value may have; others are written with brackets.
_TYPES = ("str", "int", "float", "bool")


def parse(kind: type[Parsed], path: Path, *, overrides: tuple[str, ...] = (), num_seeds: int | None = None) -> Parsed:
    """A config of any kind from a YAML file; arguments and errors as in `load_study`."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping of keys such as name, model, training; got {document!r}.")
    for override in overrides:
        _apply(document, override)
    if num_seeds is not None:
        if not 1 <= num_seeds <= MOST_SEEDS:
            raise ConfigError(f"--seeds must be at least 1 and at most {MOST_SEEDS}, got {num_seeds}.")
        document["seeds"] = list(range(num_seeds))
    return validate(kind, document, str(path))


def validate(kind: type[Parsed], document: Any, where: str) -> Parsed:
    """A config from what a document holds; a ConfigError names `where` and the first thing that does not fit."""
    try:
        place = _not_finite(document, "")
    except RecursionError:
        raise ConfigError(f"{where}: a part of the document contains itself; write it out.") from None
    if place:
        raise ConfigError(f"{where}: {place.lstrip('.')} must be a finite number, got .inf or .nan.")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_error(error, document)}") from None


def _not_finite(value: Any, place: str) -> str | None:
    """Where a document holds an infinity or no number, in free parts such as `model.config` too."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, item in items if (found := _not_finite(item, f"{place}.{key}"))), None)


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, such as training.batch_size=16.")
    *parents, last = key.split(".")
    node: Any = document
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        parsed = yaml.load(value, Loader=_UniqueKeys)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (IndexError, ValueError, TypeError, AttributeError):
        raise ConfigError(f"override {override!r}: the study has no place named {key!r}.") from None
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: the value cannot be read as YAML.") from None


def _first_error(error: ValidationError, document: Any) -> str:
    problem = error.errors()[0]
    place = ".".join(_as_written(problem["loc"], document)) or "the study"
    received = problem["input"]
    if problem["type"].startswith("union_tag"):
        # Of a part whose kind decides what else it holds.
        key, kinds = problem["ctx"]["discriminator"].strip("'"), problem["ctx"].get("expected_tags")
        if kinds is None:
            return f"{place}.{key}: this key must be given."
        return f"{place}.{key}: must be one of {kinds.replace(chr(39), '')}, got {received[key]!r}."
    message = f"{place}: {_allowed(error, problem, document)}"
    if problem["type"] == "missing":
        return f"{message}; this key must be given."
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key (its value: {received!r}); remove it or mend its spelling."
    if isinstance(received, dict | BaseModel):
        return f"{message}."
    hint = ""
    if isinstance(received, str) and problem["type"].startswith(("float", "int")):
        hint = "; YAML reads it as text" + (
            f", write {received.lower().replace('e', '.0e', 1)}" if _is_bare_exponent(received) else ""
        )
    return f"{message}, got {received!r}{hint}."


def _allowed(error: ValidationError, problem: Any, document: Any) -> str:
    """What is wrong with a value; of a part that may be one of several types, what each of them asks for."""
    place, message = _as_written(problem["loc"], document), ""
    first: str = problem["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    start, _, _ = first.partition(" should be ")
    for other in error.errors()[1:]:
        before, _, wanted = other["msg"].partition(" should be ")
        if before == start and wanted and _as_written(other["loc"], document) == place:
            message += f" or {wanted}"
    return first + message


def _as_written(place: tuple[str | int, ...], document: Any) -> list[str]:
    """A place's keys without the kinds and types that pydantic adds behind a part of several."""
    keys, part = [], document
    for key in place:
        if not isinstance(part, dict) and (key in _TYPES or "[" in str(key)):
            break
        if isinstance(part, dict) and key not in part and part.get("kind") == key:
            continue
        keys.append(str(key))
        try:
            part = part[key]
        except (KeyError, IndexError, TypeError):
            part = None
    return keys


def _is_bare_exponent(text: str) -> bool:
    mantissa, _, exponent = text.lower().partition("e")
    return mantissa.lstrip("-").isdigit() and exponent.lstrip("+-").isdigit()
