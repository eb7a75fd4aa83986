"""`hf-warmup publish` checks a folder, sends it to the Hub in one commit, and says so in a line."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.errors import ConfigError


if TYPE_CHECKING:
    from hf_warmup.hub.transfer import Contents, Outcome, Plan, Target


def publish_and_report(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    revision: str | None,
    dry_run: bool,
    as_space: bool = False,
    as_json: bool = False,
) -> None:
    """Publish a checkpoint, a finished study or a Space, and say what was done; or only what would be.

    Args:
        folder: a checkpoint folder, or that of a finished study or of a Space.
        repo_id: "ORG/NAME" or "USER/NAME".
        private: whether a repository that is made is private.
        revision: branch; the main one by default.
        dry_run: look and tell, change nothing.
        as_space: the folder is a Space's.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: for a folder that is not fit to be published, or what went wrong with the Hub.
    """
    from hf_warmup.hub.publish import prepare, prepare_space
    from hf_warmup.hub.transfer import make_plan, transfer

    # What it tries again is told at the end, as one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    console = console_for(as_json)
    target, contents = (prepare_space if as_space else prepare)(folder, repo_id, private=private, revision=revision)
    if dry_run:
        plan = make_plan(target, contents)
        if as_json:
            print_json({"url": target.url, "sent": False, **asdict(plan)})
            return
        for line in describe(target, contents, plan):
            console.print(line, markup=False)
        return
    # The Hub's client shows, on standard error, what is sent and how long it will take.
    outcome = transfer(target, contents, message=f"Publish {folder.resolve().name}")
    if as_json:
        print_json({"url": target.url, "sent": bool(outcome.added or outcome.removed), **asdict(outcome)})
        return
    console.print(sentence(target, outcome), markup=False)


def describe(target: "Target", contents: "Contents", plan: "Plan") -> list[str]:
    """What a transfer would do, in words."""
    sizes = {name: len(part) if isinstance(part, bytes) else part.stat().st_size for name, part in contents.items()}
    visibility = "private" if plan.private else "public"
    kind = {"dataset": "data set", "space": "Space", "model": "model"}[target.repo_type]
    state = "exists" if plan.exists else "would be made (or exists, and the token in use may not see it)"
    branch = f"branch {target.revision or 'main'}" + ("" if plan.has_branch or not plan.exists else " (would be made)")
    lines = [f"{target.url}: {kind} repository, {visibility}, {state}; {branch}"]
    for name in sorted(sizes):
        lines.append(f"  {'write ' if name in plan.added else 'keep  '} {sizes[name]:>12,} bytes  {name}")
    lines += [f"  remove                     {name}" for name in plan.removed]
    changes = len(plan.added) + len(plan.removed)
    outcome = f"one commit with {changes} changes" if changes else "no commit, as nothing would change"
    return [*lines, f"{len(sizes)} files, {sum(sizes.values()):,} bytes; {outcome}. Nothing was sent."]


def sentence(target: "Target", outcome: "Outcome") -> str:
    """What a transfer did, in words."""
    where = f"{target.url}, commit {outcome.commit[:12]}"
    if not outcome.added and not outcome.removed:
        return f"Nothing to do: {where}, holds exactly these files already."
    removed = f", {len(outcome.removed)} removed" if outcome.removed else ""
    return f"Published in one commit: {where} ({len(outcome.added)} files written{removed})."


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of a checkpoint, a finished study or a Space.")],
    repo_id: Annotated[str | None, typer.Option(help="ORG/NAME or USER/NAME.")] = None,
    space: Annotated[str | None, typer.Option(help="ORG/NAME of a Space, instead of --repo-id.")] = None,
    private: Annotated[bool, typer.Option("--private", help="If a repository is made, make it private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; the main one by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint (a model), a study (a data set of its records) or a Space on the Hub, in one commit."""
    if (repo_id is None) == (space is None):
        raise ConfigError("give --repo-id ORG/NAME for a checkpoint or a study, or --space ORG/NAME for a Space.")
    publish_and_report(
        folder,
        repo_id or space or "",
        private=private,
        revision=revision,
        dry_run=dry_run,
        as_space=space is not None,
        as_json=as_json,
    )
