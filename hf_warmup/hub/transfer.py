"""Brings files into a Hub repository by one commit: all or none, and no commit where nothing would change.

huggingface_hub's `upload_folder` makes several commits where Xet is installed, and sends the commit itself only once.
This module compares the repository with what it should hold, and commits the difference on top of the state that it
has looked at. Where something fails on the way, it looks again before it tries again. So a commit whose answer got
lost is found, and not made twice. Deliberately absent: what is worth publishing.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    constants,
    get_token,
)
from huggingface_hub.errors import (
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash

from hf_warmup.errors import ConfigError
from hf_warmup.hub.failures import HUB_ERRORS, explained, first_line, is_undecided, may_pass


logger = logging.getLogger(__name__)

Contents = Mapping[str, Path | bytes]

# Seconds until a transfer that failed halfway is tried again. huggingface_hub itself waits within most requests.
WAITS = (1.0, 4.0)
# A transfer looks at a repository before it makes it, makes a branch, and commits, and after each fault. After so many
# looks it would go in circles.
ROUNDS = 8

_NOTHING = "Nothing was published."
_ONLY_MADE = "The repository was made, but nothing was published in it."
_UNDECIDED = "Whether the commit has arrived is not known; the same command looks first."
# These files show that a repository holds what an earlier publication put there.
_MARKS = {
    "model": {"results.json", "certificate.json"},
    "dataset": {"results.json", "study.yaml"},
    "space": {"app.py", "requirements.txt"},
}


@dataclass(frozen=True)
class Target:
    """A repository, perhaps one that does not exist yet.

    Attributes:
        repo_id: "ORG/NAME" or "USER/NAME".
        repo_type: what it holds.
        private: for a repository that is made; one that is public already is refused if this is set.
        revision: branch, made from the main one if there is none of that name; the main one for None.
    """

    repo_id: str
    repo_type: Literal["model", "dataset", "space"] = "model"
    private: bool = False
    revision: str | None = None

    @property
    def url(self) -> str:
        """Where people find it."""
        return f"{constants.ENDPOINT}/{'' if self.repo_type == 'model' else f'{self.repo_type}s/'}{self.repo_id}"


@dataclass(frozen=True)
class Plan:
    """What differs between a repository and what it should hold.

    Attributes:
        exists, private: whether there is such a repository, and whether it is or will be private.
        head: the commit that was looked at; None for a repository that does not exist.
        has_branch: whether the branch exists.
        added, removed: paths that a commit has to write and to delete.
    """

    exists: bool
    private: bool
    head: str | None
    has_branch: bool
    added: list[str]
    removed: list[str]


@dataclass(frozen=True)
class Outcome:
    """What a transfer did. `commit` holds the files; if they were there already, nothing was added or removed."""

    commit: str
    added: list[str]
    removed: list[str]


def check_access(target: Target) -> str:
    """The name of the user whose token is in use.

    Raises:
        ConfigError: without a token, with one that is not valid or may only read, for an impossible name, or if the
            Hub does not answer.
    """
    check_repo_id(target.repo_id)
    try:
        return _whose_token(HfApi())
    except HUB_ERRORS as error:
        raise explained(error, target.repo_id, revision=target.revision, state=_NOTHING) from None


def check_repo_id(repo_id: str) -> None:
    """Accept "NAMESPACE/NAME" as the Hub allows it.

    Raises:
        ConfigError: otherwise.
    """
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("the namespace is missing")
    except HFValidationError as error:
        raise ConfigError(
            f"--repo-id must be ORG/NAME or USER/NAME, of letters, digits and . _ -; got {repo_id!r} ({error})."
        ) from None


def make_plan(target: Target, contents: Contents) -> Plan:
    """Compare a repository with what it should hold. A public one needs no token.

    Raises:
        ConfigError: if it belongs to something else, or is public and should be private, or cannot be looked at.
    """
    check_repo_id(target.repo_id)
    try:
        return _compare(HfApi(), target, contents)
    except HUB_ERRORS as error:
        raise explained(error, target.repo_id, revision=target.revision, state=_NOTHING) from None


def transfer(target: Target, contents: Contents, *, message: str) -> Outcome:
    """Make a repository hold exactly `contents`, by at most one commit. One that does not exist is made.

    Args:
        target: where to.
        contents: path in the repository to a file, or to its bytes.
        message: the commit's first line.

    Raises:
        ConfigError: for whatever went wrong, saying whether anything was published.
    """
    check_repo_id(target.repo_id)
    api, waits = HfApi(), iter(WAITS)
    name, state = "", _NOTHING
    sent: Plan | None = None
    for _ in range(ROUNDS):
        try:
            name = name or _whose_token(api)
            plan = _compare(api, target, contents)
            if plan.has_branch and not plan.added and not plan.removed:
                return Outcome(str(plan.head), *((sent.added, sent.removed) if sent else ([], [])))
            sent = None
            if not plan.exists:
                sdk = "gradio" if target.repo_type == "space" else None
                api.create_repo(
                    target.repo_id,
                    repo_type=target.repo_type,
                    private=target.private,
                    exist_ok=True,
                    space_sdk=sdk,
                )
                state = _ONLY_MADE
            elif not plan.has_branch:
                branch = str(target.revision)
                api.create_branch(target.repo_id, branch=branch, repo_type=target.repo_type, exist_ok=True)
            else:
                commit = _commit(api, target, contents, plan, message)
                sent = plan
                _check_arrived(api, target, contents, commit)
                return Outcome(commit, plan.added, plan.removed)
        except HUB_ERRORS as error:
            if is_undecided(error):
                sent = plan
            wait = next(waits, None)
            if wait is None or not may_pass(error):
                state = state if sent is None else _UNDECIDED
                raise explained(error, target.repo_id, revision=target.revision, state=state) from None
            logger.info("%s; looking again in %g s", first_line(error), wait)
            time.sleep(wait)
    raise ConfigError(f"{target.repo_id} was made, but the Hub does not show it to this token. {_ONLY_MADE}")


def _whose_token(api: HfApi) -> str:
    if get_token() is None:
        raise ConfigError(
            "publishing needs a token with write access, and there is none: log in with `hf auth login`, or set the "
            "environment variable HF_TOKEN."
        )
    about = api.whoami()
    if about.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ConfigError(
            f"the token of {about['name']} may only read: make one with write access (on the Hub, under Settings, "
            f"Access Tokens) and log in with it, `hf auth login`."
        )
    return str(about["name"])


def _compare(api: HfApi, target: Target, contents: Contents) -> Plan:
    try:
        about = api.repo_info(target.repo_id, repo_type=target.repo_type)
    except RepositoryNotFoundError:
        return Plan(False, target.private, None, False, sorted(contents), [])
    if target.private and not about.private:
        raise ConfigError(
            f"{target.repo_id} exists and is public; --private holds for a repository that is made. Make it private "
            f"in its settings on the Hub first, or choose another --repo-id."
        )
    head, has_branch = about.sha, True
    if target.revision is not None:
        try:
            head = api.repo_info(target.repo_id, repo_type=target.repo_type, revision=target.revision).sha
        except RevisionNotFoundError:
            has_branch = False
    added, foreign, is_ours = _differences(api, target, contents, str(head))
    if foreign and not is_ours:
        raise ConfigError(
            f"{target.repo_id} holds something else ({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}), "
            f"which publishing would remove. Choose another --repo-id, or empty that repository first."
        )
    return Plan(True, bool(about.private), str(head), has_branch, added, foreign)


def _differences(api: HfApi, target: Target, contents: Contents, commit: str) -> tuple[list[str], list[str], bool]:
    """Paths that `commit` lacks or holds with other bytes, further paths in it, and whether a publication made it."""
    tree = api.list_repo_tree(target.repo_id, repo_type=target.repo_type, recursive=True, revision=commit)
    present = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    added = [path for path in sorted(contents) if not _is_same(contents[path], present.get(path))]
    foreign = sorted(path for path in present if path not in contents and not _is_kept(path))
    return added, foreign, _MARKS[target.repo_type] <= present.keys()


def _is_same(content: Path | bytes, entry: RepoFile | None) -> bool:
    if entry is None:
        return False
    data = content if isinstance(content, bytes) else content.read_bytes()
    if entry.lfs is not None:
        return hashlib.sha256(data).hexdigest() == entry.lfs.sha256
    return git_hash(data) == entry.blob_id


def _is_kept(path: str) -> bool:
    """The Hub's own files and a license are left alone."""
    return path.startswith((".", "LICENSE"))


def _commit(api: HfApi, target: Target, contents: Contents, plan: Plan, message: str) -> str:
    """Commit the differences on top of the state in which they were found; the commit's digest."""
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete(path) for path in plan.removed
    ]
    operations += [CommitOperationAdd(path, contents[path]) for path in plan.added]
    made = api.create_commit(
        target.repo_id,
        operations,
        commit_message=message,
        repo_type=target.repo_type,
        revision=target.revision,
        parent_commit=plan.head,
    )
    return str(made.oid)


def _check_arrived(api: HfApi, target: Target, contents: Contents, commit: str) -> None:
    added, removed, _ = _differences(api, target, contents, commit)
    if added or removed:
        raise ConfigError(
            f"{target.repo_id}, commit {commit}: {', '.join([*added, *removed])} differ from what was sent. Do not "
            f"use this commit; run the same command again."
        )
