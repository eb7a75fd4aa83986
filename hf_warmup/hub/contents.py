"""Which files a checkpoint folder holds; formats that run code when they are loaded are not among them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from hf_warmup.errors import ConfigError
from hf_warmup.models.saving import SETTINGS, model_files
from hf_warmup.numpy_verifier.evidence import COUNTEREXAMPLES, SLOPES
from hf_warmup.numpy_verifier.weights import INDEX, WHOLE, is_shard
from hf_warmup.records.files import Record


# A checkpoint holds these and its weights, which are `WHOLE`, or shards and `INDEX`.
DOCUMENTS = (*SETTINGS, "README.md", "results.json", "training.yaml", "certificate.json", "attack.json", "radius.png")
# And these where its certificate names their SHA-256, by the certificate's names for them.
EVIDENCE = {"counterexamples_sha256": COUNTEREXAMPLES, "slopes_sha256": SLOPES}
# Git and the Hub's client leave these in a folder. Nothing is loaded from there.
BOOKKEEPING = (".git", ".gitattributes", ".cache")


def contents_of(folder: Path) -> dict[str, Path]:
    """Every file of a folder but bookkeeping, by its path within; evidence may lie in a folder of its own.

    Raises:
        ConfigError: for a link, or a folder that no checkpoint has.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name in BOOKKEEPING:
            continue
        inner = path.is_dir() and any(path.name == Path(name).parent.name for name in EVIDENCE.values())
        for file in sorted(path.iterdir()) if inner and not path.is_symlink() else [path]:
            if file.is_symlink() or not file.is_file():
                raise ConfigError(f"{folder}: {file.name} is a link or a folder; a checkpoint holds plain files only.")
            found[file.relative_to(folder).as_posix()] = file
    return found


def is_expected(name: str) -> bool:
    """Whether a checkpoint, but for modeling code, may hold a file of this name."""
    return name in (WHOLE, INDEX, *DOCUMENTS, *EVIDENCE.values()) or is_shard(name)


def check_files(folder: Path) -> None:
    """Check that a checkpoint has all that it must have, and nothing that it must not.

    Raises:
        ConfigError: with the reason.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.")
    present = contents_of(folder)
    for name, path in present.items():
        if not is_expected(name) and not (name == path.name and path.suffix == ".py" and _is_our_code(path)):
            raise ConfigError(
                f"{folder}: unexpected file {name}. A checkpoint holds {WHOLE} (or shards of it and {INDEX}), "
                f"{', '.join(DOCUMENTS)}, perhaps {', '.join(EVIDENCE.values())} and the modeling code of this "
                f"version, unchanged; other formats can run code when they are loaded."
            )
    wanted = DOCUMENTS if INDEX in present or any(map(is_shard, present)) else (WHOLE, *DOCUMENTS)
    if missing := sorted(set(wanted) - present.keys()):
        raise ConfigError(f"{folder}: missing {', '.join(missing)}.")
    model_files(folder)


def named_evidence(certificate: Record, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of the files beside a certificate those that it names."""
    return {name: files[name] for key, name in EVIDENCE.items() if certificate.get(key) is not None}


def check_evidence(folder: Path, certificate: Record) -> None:
    """Check that what stands beside a certificate is what it names.

    Raises:
        ConfigError: for a file that is missing, changed, or not named.
    """
    for key, name in EVIDENCE.items():
        digest = file_digest(folder / name) if (folder / name).is_file() else None
        if digest != certificate.get(key):
            raise ConfigError(f"{folder}: {name} is not what certificate.json names, by its SHA-256 or as missing.")


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_our_code(path: Path) -> bool:
    from hf_warmup.hub.modeling_code import modeling_code

    ours: dict[str, str] = modeling_code()
    return path.name in ours and path.read_bytes() == ours[path.name].encode()
