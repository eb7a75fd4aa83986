"""A checkpoint's own modeling code, for people without this package: the sources of `hf_warmup.models`, copied.

transformers loads such code with `trust_remote_code=True` only, and only from files beside the weights, so imports
among them become relative. Where the package is installed its registered classes are used, and the copies are not.
"""

import json
from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.models import CertifiedConfig
from hf_warmup.records.files import Record, write_text


SOURCES = Path(__file__).parent.parent / "models"
MODULES = ("architectures", "configuration_certified", "image_processing_certified", "modeling_certified")

# transformers looks for these names in each file's "auto_map".
AUTO_MAP: dict[str, dict[str, str]] = {
    "config.json": {
        "AutoConfig": "configuration_certified.CertifiedConfig",
        "AutoModelForImageClassification": "modeling_certified.CertifiedForImageClassification",
    },
    "preprocessor_config.json": {"AutoImageProcessor": "image_processing_certified.CertifiedImageProcessor"},
}


def modeling_code() -> dict[str, str]:
    """The exact text of each file of modeling code, by its name."""
    return {
        f"{module}.py": (SOURCES / f"{module}.py")
        .read_text(encoding="utf-8")
        .replace("from hf_warmup.models.", "from .")
        for module in MODULES
    }


def add_modeling_code(folder: Path) -> None:
    """Put the modeling code into a checkpoint folder and name its classes in the JSON files; safe to repeat.

    Args:
        folder: with config.json and preprocessor_config.json of a `CertifiedForImageClassification`.

    Raises:
        ConfigError: if it is not such a folder; nothing is written then.
    """
    documents = {name: _document(folder / name) for name in AUTO_MAP}
    model_type = documents["config.json"].get("model_type")
    if model_type != CertifiedConfig.model_type:
        raise ConfigError(
            f"{folder}: the modeling code is that of models of type {CertifiedConfig.model_type!r}; its config.json "
            f"says {model_type!r}."
        )
    for name, text in modeling_code().items():
        write_text(folder / name, text)
    for name, document in documents.items():
        # transformers writes these files in this form.
        write_text(
            folder / name, json.dumps({**document, "auto_map": AUTO_MAP[name]}, indent=2, sort_keys=True) + "\n"
        )


def _document(path: Path) -> Record:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); expected a checkpoint folder.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a JSON object, got a {type(document).__name__}.")
    return document
