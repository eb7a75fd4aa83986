"""Where a model's files lie: a folder, or one commit of a repository on the Hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download

from hf_warmup.errors import ConfigError, first_line
from hf_warmup.numpy_verifier.weights import settings_sha256


# What `load_classifier` reads: settings, and weights in safetensors.
_PATTERNS = ["config.json", "*processor_config.json", "*.safetensors", "model.safetensors.index.json"]


@dataclass(frozen=True)
class ModelSource:
    """A model's folder; where it came from the Hub, also repository and commit, by its 40 hexadecimal digits.

    What a person's function made has SHA-256 of the function's file, by its name, and of the weights.
    """

    folder: Path
    repository: str | None = None
    revision: str | None = None
    settings: Mapping[str, str] | None = None
    weights: str | None = None

    @property
    def settings_sha256(self) -> dict[str, str]:
        """SHA-256 of the files that say what the model is beside its weights, by their names."""
        return settings_sha256(self.folder) if self.settings is None else dict(self.settings)


def find_model(name: str, *, revision: str | None = None) -> ModelSource:
    """The files of a model: a folder as it is, or those of one commit of a Hub repository, downloaded if need be.

    Args:
        name: folder or Hub name.
        revision: commit; the newest by default, or without network the newest that was downloaded.

    Raises:
        ConfigError: if there is no such folder or repository, or it cannot be had.
    """
    if revision is None and Path(name).is_dir():
        return ModelSource(Path(name))
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{name}: no folder, and no config of an image classifier can be loaded from the Hub "
            f"({type(error).__name__}: {first_line(error)})."
        ) from None
    return ModelSource(folder, name, folder.name)
