"""What a Hub remembers: who may do what, repositories as chains of immutable commits, and large objects by digest."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
# As on the Hub, binary files go the way of large objects, however small.
LARGE = (".safetensors", ".png", ".bin")
LARGEST_REGULAR = 10_000_000


class Denied(Exception):
    """A request that the server answers with an error; `code` becomes the header X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class User:
    """Somebody with a token."""

    name: str
    organizations: tuple[str, ...] = ()
    role: str = "write"


@dataclass(frozen=True)
class Blob:
    """A file's content; `large` ones are stored by SHA-256, as git's large file storage does."""

    content: bytes
    large: bool

    @property
    def digest(self) -> str:
        """SHA-256 of a large file, git's SHA-1 of any other."""
        return hashlib.sha256(self.content).hexdigest() if self.large else git_digest(self.content)

    def described(self, path: str) -> dict[str, object]:
        """As the tree lists it."""
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(self.content)}
        if not self.large:
            return {**entry, "oid": self.digest}
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.digest}\nsize {len(self.content)}\n"
        lfs = {"oid": self.digest, "size": len(self.content), "pointerSize": len(pointer)}
        return {**entry, "oid": git_digest(pointer.encode()), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    """A state of all files, which never changes."""

    oid: str
    message: str
    files: Mapping[str, Blob]


@dataclass
class Repository:
    """Branches, each the list of its commits, the newest last."""

    repo_id: str
    kind: str
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def commit(self, revision: str) -> Commit:
        """The newest commit of a branch, or the one with that digest."""
        if revision in self.branches:
            return self.branches[revision][-1]
        for commits in self.branches.values():
            for commit in commits:
                if commit.oid == revision:
                    return commit
        raise Denied(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class Store:
    """Everything in memory.

    Attributes:
        users: by token.
        repositories: by (kind, id); the kind in the plural.
        objects: large objects that were verified, by SHA-256; `arrived` ones were not yet.
    """

    def __init__(self, users: Mapping[str, User]) -> None:
        self.users = dict(users)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.arrived: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def user(self, token: str | None) -> User | None:
        """Whose token it is; None without one."""
        if token is None:
            return None
        if token not in self.users:
            raise Denied(401, "Invalid credentials in Authorization header")
        return self.users[token]

    def readable(self, kind: str, repo_id: str, user: User | None) -> Repository:
        """The repository, if `user` may know of it; the Hub hides whether a private one exists."""
        found = self.repositories.get((kind, repo_id))
        if found is None or (found.private and not _belongs(repo_id, user)):
            raise Denied(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return found

    def writable(self, kind: str, repo_id: str, user: User | None) -> Repository:
        """The repository, if `user` may write to it."""
        found = self.readable(kind, repo_id, user)
        if user is None:
            raise Denied(401, "Invalid username or password.")
        if user.role != "write" or not _belongs(repo_id, user):
            raise Denied(403, "Authorization error.")
        return found

    def create(self, kind: str, repo_id: str, user: User | None, *, private: bool) -> Repository:
        """A new repository, with the first commit that the Hub makes."""
        if user is None:
            raise Denied(401, "Invalid username or password.")
        if user.role != "write" or not _belongs(repo_id, user):
            namespace = repo_id.partition("/")[0]
            raise Denied(403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"')
        if (kind, repo_id) in self.repositories:
            raise Denied(409, f"You already created this {kind[:-1]} repo")
        first = Commit(
            _commit_digest("", "initial commit"), "initial commit", {".gitattributes": Blob(ATTRIBUTES, False)}
        )
        made = Repository(repo_id, kind, private, {"main": [first]})
        self.repositories[kind, repo_id] = made
        return made

    def change(self, repository: Repository, branch: str, lines: Iterable[bytes]) -> Commit:
        """One more commit, all of it or nothing, from the lines of a commit request."""
        with self.lock:
            if branch not in repository.branches:
                raise Denied(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = repository.branches[branch][-1]
            files, message = dict(head.files), ""
            for line in lines:
                item = json.loads(line)
                key, value = item["key"], item["value"]
                if key == "header":
                    message = value["summary"]
                    if value.get("parentCommit", head.oid) != head.oid:
                        raise Denied(412, "A commit has happened since. Please refresh and try again.")
                else:
                    self._apply(files, key, value)
            commit = Commit(
                _commit_digest(head.oid, repr(sorted((p, b.digest) for p, b in files.items()))), message, files
            )
            repository.branches[branch].append(commit)
            return commit

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, str]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]), large=False)
        elif key == "lfsFile":
            if value["oid"] not in self.objects:
                raise Denied(400, f"LFS pointer pointed to a file that does not exist: {path}")
            files[path] = Blob(self.objects[value["oid"]], large=True)
        elif key == "deletedFile":
            if path not in files:
                raise Denied(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[path]
        elif key == "deletedFolder":
            for each in [each for each in files if each.startswith(path.rstrip("/") + "/")]:
                del files[each]
        else:
            raise Denied(400, f"unknown operation {key}")

    def verify(self, oid: str, size: int) -> None:
        """Accept an object that has arrived, if it is what it was announced to be; two files may be one object."""
        content = self.arrived.pop(oid, self.objects.get(oid, b""))
        if len(content) != size or hashlib.sha256(content).hexdigest() != oid:
            raise Denied(422, "Uploaded object does not match its SHA-256")
        self.objects[oid] = content


def git_digest(content: bytes) -> str:
    """The name that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str, size: int) -> bool:
    """Whether a file is to be uploaded as a large object."""
    return path.endswith(LARGE) or size > LARGEST_REGULAR


def _belongs(repo_id: str, user: User | None) -> bool:
    return user is not None and repo_id.partition("/")[0] in (user.name, *user.organizations)


def _commit_digest(parent: str, content: str) -> str:
    return hashlib.sha1(f"{parent}\n{content}".encode()).hexdigest()
