"""What `hf-warmup publish` does: a checked folder in, one commit on the Hub out; and pushes while a model is trained.

A checkpoint folder becomes a model repository, a finished study a data set. Deliberately absent: what a folder must
hold (`checkpoint_folder`, `study_dataset`), and how it gets there (`transfer`).
"""

import logging
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from rich.console import Console

from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import BOOKKEEPING, check_checkpoint, is_expected
from hf_warmup.hub.study_dataset import is_study, study_contents
from hf_warmup.hub.transfer import Contents, Outcome, Plan, Target, check_access, make_plan, transfer
from hf_warmup.models.saving import model_files
from hf_warmup.training.accelerator import join_processes


logger = logging.getLogger(__name__)

# Beside a model that is still being trained: a repository's earlier card would speak of other weights.
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


def publish_and_report(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    revision: str | None,
    dry_run: bool,
    check: Callable[[Path], None] = check_checkpoint,
) -> None:
    """Publish a checkpoint or a finished study, and say what was done; or only what would be.

    Args:
        folder: a checkpoint folder, or that of a finished study.
        repo_id: "ORG/NAME" or "USER/NAME".
        private: whether a repository that is made is private.
        revision: branch; the main one by default.
        dry_run: look and tell, change nothing.
        check: of a checkpoint folder.

    Raises:
        ConfigError: for a folder that is not fit to be published, or what went wrong with the Hub.
    """
    # What it tries again is told at the end, as one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    console = Console(highlight=False, soft_wrap=True)
    target, contents = prepare(folder, repo_id, private=private, revision=revision, check=check)
    if dry_run:
        for line in describe(target, contents, make_plan(target, contents)):
            console.print(line, markup=False)
        return
    with console.status(f"publishing {folder} to {repo_id}"):
        outcome = transfer(target, contents, message=f"Publish {folder.resolve().name}")
    console.print(sentence(target, outcome), markup=False)


def prepare(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    revision: str | None,
    check: Callable[[Path], None] = check_checkpoint,
) -> tuple[Target, Contents]:
    """What is to be published and where, once the folder is found to be fit for it; the Hub is not asked.

    Raises:
        ConfigError: if it is not.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give a checkpoint folder or that of a finished study.")
    if is_study(folder):
        return Target(repo_id, "dataset", private, revision), study_contents(folder)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is neither a checkpoint folder (no config.json) nor the folder of a study (no study.json)."
        )
    _check_kinds(folder)
    check(folder)
    return Target(repo_id, "model", private, revision), {path.name: path for path in _published(folder)}


def describe(target: Target, contents: Contents, plan: Plan) -> list[str]:
    """What a transfer would do, in words."""
    sizes = {name: len(part) if isinstance(part, bytes) else part.stat().st_size for name, part in contents.items()}
    visibility = "private" if plan.private else "public"
    kind = "data set" if target.repo_type == "dataset" else "model"
    state = "exists" if plan.exists else "would be made (or exists, and the token in use may not see it)"
    branch = f"branch {target.revision or 'main'}" + ("" if plan.has_branch or not plan.exists else " (would be made)")
    lines = [f"{target.url}: {kind} repository, {visibility}, {state}; {branch}"]
    for name in sorted(sizes):
        lines.append(f"  {'write ' if name in plan.added else 'keep  '} {sizes[name]:>12,} bytes  {name}")
    lines += [f"  remove                     {name}" for name in plan.removed]
    changes = len(plan.added) + len(plan.removed)
    outcome = f"one commit with {changes} changes" if changes else "no commit, as nothing would change"
    return [*lines, f"{len(sizes)} files, {sum(sizes.values()):,} bytes; {outcome}. Nothing was sent."]


def sentence(target: Target, outcome: Outcome) -> str:
    """What a transfer did, in words."""
    where = f"{target.url}, commit {outcome.commit[:12]}"
    if not outcome.added and not outcome.removed:
        return f"Nothing to do: {where}, holds exactly these files already."
    removed = f", {len(outcome.removed)} removed" if outcome.removed else ""
    return f"Published in one commit: {where} ({len(outcome.added)} files written{removed})."


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
    """Push a model in training, from the main process only; whatever goes wrong is a warning, and training goes on.

    The repository then holds this model and a card that says that nothing is proven of it: results, certificate and
    card of an earlier model are removed, as they would speak of other weights.

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


def _published(folder: Path) -> list[Path]:
    present = sorted(path for path in folder.iterdir() if path.name not in BOOKKEEPING)
    return [path for path in present if is_expected(path.name) or path.suffix == ".py"]


def _check_kinds(folder: Path) -> None:
    """The first of two locks: what `check` may let pass one day is still never uploaded."""
    allowed = (".safetensors", ".json", ".md", ".png", ".yaml", ".py")
    for path in sorted(path for path in folder.iterdir() if path.name not in BOOKKEEPING):
        if path.is_symlink() or not path.is_file():
            raise ConfigError(f"{folder}: {path.name} is a symbolic link or a folder; only plain files are published.")
        if path.name.startswith(".") or path.suffix not in allowed:
            raise ConfigError(
                f"{folder}: {path.name} is not published; only {', '.join(allowed)} are, as other files can run code "
                f"when they are loaded, or are nobody's business. Remove it first."
            )
