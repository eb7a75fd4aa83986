"""Decides which files of a folder are published, and as what; pushes a model while it is trained.

A checkpoint folder becomes a model repository, a finished study a data set, a page of Gradio a Space. Deliberately
absent: what a folder must hold (`checkpoint`, `study_dataset`), and how it gets there (`transfer`).
"""

import logging
from pathlib import Path

from accelerate import PartialState

from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint
from hf_warmup.hub.contents import contents_of, is_expected
from hf_warmup.hub.study_dataset import is_study, study_contents
from hf_warmup.hub.transfer import Contents, Target, check_access, transfer
from hf_warmup.models.saving import model_files
from hf_warmup.training.accelerator import join_processes


logger = logging.getLogger(__name__)

# The card of a model in training; it replaces an earlier card, which would speak of other weights.
IN_TRAINING = """---
library_name: transformers
pipeline_tag: image-classification
tags:
- hf_warmup
- in-training
---

# In training

Weights of a run that is not finished, or has not been certified. Nothing is proven of them yet.
"""


def prepare(folder: Path, repo_id: str, *, private: bool, revision: str | None) -> tuple[Target, Contents]:
    """Check that a folder is fit to be published; return where it goes and its files. The Hub is not asked.

    Raises:
        ConfigError: if it is not.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give the folder of a checkpoint or of a finished study.")
    if is_study(folder):
        return Target(repo_id, "dataset", private, revision), study_contents(folder)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is neither a checkpoint folder (no config.json) nor the folder of a study (no study.json)."
        )
    _check_kinds(folder)
    check_checkpoint(folder)
    files = {name: path for name, path in contents_of(folder).items() if is_expected(name) or path.suffix == ".py"}
    return Target(repo_id, "model", private, revision), dict(files)


def prepare_space(folder: Path, repo_id: str, *, private: bool, revision: str | None) -> tuple[Target, Contents]:
    """The same for a page that becomes a Space: a Gradio application with its card and its requirements.

    Raises:
        ConfigError: if the folder is not one, or holds files of another kind.
    """
    for name in ("README.md", "app.py", "requirements.txt"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}; a Space needs README.md, app.py and requirements.txt.")
    head = (folder / "README.md").read_text(encoding="utf-8").split("---")
    if len(head) < 3 or "sdk: gradio" not in head[1].splitlines():
        raise ConfigError(f"{folder / 'README.md'} must begin with metadata that say `sdk: gradio`.")
    present = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    for path in present:
        if path.is_symlink() or path.suffix not in (".py", ".txt", ".md", ".png"):
            raise ConfigError(
                f"{folder}: {path.name} does not belong in a Space, which holds .py, .txt, .md and .png; remove it."
            )
    return Target(repo_id, "space", private, revision), {str(path.relative_to(folder)): path for path in present}


def check_push(repo_id: str) -> None:
    """Find out before a long training whether its pushes can work at all.

    Raises:
        ConfigError: without a token that is valid and may write, or for an impossible name.
    """
    join_processes()
    if PartialState().is_main_process:
        check_access(Target(repo_id))


def push_model(
    folder: Path, repo_id: str, *, message: str, private: bool = False, revision: str | None = None
) -> bool:
    """Push a model in training, from the main process only. If it fails, a warning says so and training goes on.

    The repository then holds this model and a card that says that nothing is proven of it. Results, certificate and
    card of an earlier model are removed, since they speak of other weights.

    Args:
        folder: from `save_model`.
        repo_id: "ORG/NAME" or "USER/NAME".
        message: the commit's first line, such as "seed 0, epoch 10".
        private: whether a repository that is made is private.
        revision: branch, made if need be, such as the run's name where a study has several; the main one by default.

    Returns:
        Whether the repository holds the model now; False on all other processes.
    """
    join_processes()
    if not PartialState().is_main_process:
        return False
    try:
        contents: Contents = {
            **{name: folder / name for name in model_files(folder)},
            "README.md": IN_TRAINING.encode(),
        }
        transfer(Target(repo_id, "model", private, revision), contents, message=message)
    except ConfigError as error:
        logger.warning("The model was not pushed to %s, and training goes on: %s", repo_id, error)
        return False
    return True


def _check_kinds(folder: Path) -> None:
    """The first of two checks: a file that `check_checkpoint` lets pass one day is still not uploaded."""
    allowed = (".safetensors", ".json", ".md", ".png", ".yaml", ".npz", ".py")
    for name, path in contents_of(folder).items():
        if name.startswith(".") or path.suffix not in allowed:
            raise ConfigError(
                f"{folder}: {name} is not published; only {', '.join(allowed)} are, as other files can run code "
                f"when they are loaded, or may be private. Remove it first."
            )
