"""The Hub's endpoints that huggingface_hub 2.4 uses with Xet switched off: each a function from a call to an answer.

Deliberately absent: Xet, Spaces, pull requests, multi-part uploads, search beyond tags and authors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import yaml
from hub_store import KINDS, Blob, Denied, Repository, Store, User, is_large


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A request that has arrived whole, and what it is answered from; `parts` are those of its path."""

    store: Store
    url: str
    user: User | None
    parts: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def readable(self) -> Repository:
        """The repository of the path, if whoever asks may read it."""
        return self.store.readable(self.parts["kind"], self.parts["repo_id"], self.user)

    def writable(self) -> Repository:
        """The repository of the path, if whoever asks may write to it."""
        return self.store.writable(self.parts["kind"], self.parts["repo_id"], self.user)


def answer(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, store: Store, url: str
) -> Answer:
    """Answer a request.

    Raises:
        Denied: if it may not be, or cannot be.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    user = store.user(token if scheme == "Bearer" else None)
    for wanted, pattern, act in _ROUTES:
        found = re.fullmatch(pattern, path)
        if wanted == ("GET" if method == "HEAD" else method) and found:
            parts = {"kind": next((kind for kind in ("datasets", "spaces") if f"/{kind}/" in path), "models")}
            parts |= {name: unquote(part) for name, part in found.groupdict(default="").items()}
            return act(Call(store, url, user, parts, parse_qs(query), headers, body))
    raise Denied(404, f"no such endpoint: {method} {path}")


def as_json(document: object) -> Answer:
    """A JSON document as an answer."""
    return Answer(json.dumps(document).encode(), headers={"Content-Type": "application/json"})


def _who(call: Call) -> Answer:
    if call.user is None:
        raise Denied(401, "Invalid username or password.")
    organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in call.user.organizations]
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": call.user.role}}
    return as_json({"type": "user", "name": call.user.name, "orgs": organizations, "auth": access})


def _create(call: Call) -> Answer:
    wanted = json.loads(call.body)
    repo_id = f"{wanted.get('organization') or (call.user and call.user.name)}/{wanted['name']}"
    kind = wanted.get("type", "model")
    made = call.store.create(KINDS[kind], repo_id, call.user, private=wanted.get("visibility") == "private")
    return as_json({"url": f"{call.url}/{'' if kind == 'model' else f'{KINDS[kind]}/'}{made.repo_id}"})


def _delete(call: Call) -> Answer:
    wanted = json.loads(call.body)
    kind, repo_id = KINDS[wanted.get("type", "model")], f"{wanted['organization']}/{wanted['name']}"
    call.store.writable(kind, repo_id, call.user)
    del call.store.repositories[kind, repo_id]
    return Answer()


def _validate_card(call: Call) -> Answer:
    closed = re.match(r"---\n.*?\n---\n", json.loads(call.body)["content"], re.DOTALL)
    return as_json({"errors": [], "warnings": [] if closed else [{"message": "empty or missing yaml metadata"}]})


def _list(call: Call) -> Answer:
    found = []
    for (kind, repo_id), repository in sorted(call.store.repositories.items()):
        author = call.query.get("author", [repo_id.partition("/")[0]])[0]
        mine = not repository.private or (call.user is not None and repo_id.startswith(f"{call.user.name}/"))
        about = _about(repository, "main")
        wanted = set(call.query.get("filter", [])) <= set(about["tags"])  # type: ignore[call-overload]
        if kind == call.parts["kind"] and mine and wanted and repo_id.startswith(f"{author}/"):
            found.append(about)
    return as_json(found)


def _info(call: Call) -> Answer:
    repository = call.readable()
    return as_json(_about(repository, call.parts.get("revision") or "main"))


def _tree(call: Call) -> Answer:
    files = call.readable().commit(call.parts["revision"]).files
    folder = call.parts["path"].strip("/")
    inside = {path: blob for path, blob in files.items() if not folder or path.startswith(folder + "/")}
    if call.query.get("recursive", ["false"])[0].lower() != "true":
        depth = folder.count("/") + 1 if folder else 0
        inside = {path: blob for path, blob in inside.items() if path.count("/") == depth}
    if folder and not inside:
        raise Denied(404, f"{folder} does not exist", "EntryNotFound")
    return as_json([blob.described(path) for path, blob in sorted(inside.items())])


def _paths(call: Call) -> Answer:
    files = call.readable().commit(call.parts["revision"]).files
    text = call.body.decode()
    wanted = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    return as_json([files[path].described(path) for path in wanted if path in files])


def _references(call: Call) -> Answer:
    branches = call.readable().branches
    found = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commits[-1].oid}
        for name, commits in branches.items()
    ]
    return as_json({"branches": found, "tags": [], "converts": []})


def _branch(call: Call) -> Answer:
    repository = call.writable()
    if call.parts["revision"] in repository.branches:
        raise Denied(409, "Reference already exists")
    start = repository.commit(json.loads(call.body or b"{}").get("startingPoint", "main"))
    repository.branches[call.parts["revision"]] = [start]
    return as_json({})


def _preupload(call: Call) -> Answer:
    present = call.writable().commit(call.parts["revision"]).files
    found = []
    for file in json.loads(call.body)["files"]:
        path = file["path"]
        mode = "lfs" if is_large(path, file["size"]) else "regular"
        entry = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        found.append({**entry, "oid": present[path].digest} if path in present else entry)
    return as_json({"files": found})


def _batch(call: Call) -> Answer:
    call.writable()
    found = []
    for wanted in json.loads(call.body)["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in call.store.objects:
            upload = {"href": f"{call.url}/upload/{wanted['oid']}", "header": {}}
            verify = {"href": f"{call.url}/verify/{wanted['oid']}", "header": {}}
            entry["actions"] = {"upload": upload, "verify": verify}
        found.append(entry)
    return as_json({"transfer": "basic", "objects": found})


def _upload(call: Call) -> Answer:
    call.store.arrived[call.parts["oid"]] = call.body
    return Answer()


def _verify(call: Call) -> Answer:
    call.store.verify(call.parts["oid"], json.loads(call.body)["size"])
    return as_json({})


def _commit(call: Call) -> Answer:
    repository = call.writable()
    commit = call.store.change(repository, call.parts["revision"], call.body.splitlines())
    url = f"{call.url}/{call.parts['repo_id']}/commit/{commit.oid}"
    return as_json({"success": True, "commitOid": commit.oid, "commitUrl": url})


def _resolve(call: Call) -> Answer:
    commit = call.readable().commit(call.parts["revision"])
    if call.parts["path"] not in commit.files:
        headers = {"X-Repo-Commit": commit.oid, "X-Error-Code": "EntryNotFound"}
        return Answer(b"Entry not found", 404, headers)
    blob = commit.files[call.parts["path"]]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.digest}"', "Accept-Ranges": "bytes"}
    if blob.large:
        headers |= {"X-Linked-ETag": f'"{blob.digest}"', "X-Linked-Size": str(len(blob.content))}
    start = re.fullmatch(r"bytes=(\d+)-", call.headers.get("Range", ""))
    if start is None:
        return Answer(blob.content, 200, headers)
    first, size = int(start[1]), len(blob.content)
    return Answer(blob.content[first:], 206, {**headers, "Content-Range": f"bytes {first}-{size - 1}/{size}"})


def _about(repository: Repository, revision: str) -> dict[str, object]:
    commit = repository.commit(revision)
    card = commit.files.get("README.md", Blob(b"", large=False)).content.decode()
    header: dict[str, object] = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
    return {
        "id": repository.repo_id,
        "sha": commit.oid,
        "private": repository.private,
        "tags": header.get("tags", []),
        "cardData": header,
        "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        "downloads": 0,
        "likes": 0,
    }


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_PLACE = r"/(?:datasets/|spaces/)?(?P<repo_id>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _who),
    ("POST", r"/api/repos/create", _create),
    ("DELETE", r"/api/repos/delete", _delete),
    ("POST", r"/api/validate-yaml", _validate_card),
    ("GET", r"/api/(?P<kind>models|datasets|spaces)", _list),
    ("GET", _API, _info),
    ("GET", f"{_API}/revision/{_REVISION}", _info),
    ("GET", f"{_API}/tree/{_REVISION}(?P<path>/.*)?", _tree),
    ("POST", f"{_API}/paths-info/{_REVISION}", _paths),
    ("GET", f"{_API}/refs", _references),
    ("POST", f"{_API}/branch/{_REVISION}", _branch),
    ("POST", f"{_API}/preupload/{_REVISION}", _preupload),
    ("POST", f"{_API}/commit/{_REVISION}", _commit),
    ("POST", f"{_PLACE}\\.git/info/lfs/objects/batch", _batch),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", _upload),
    ("POST", r"/verify/(?P<oid>[0-9a-f]{64})", _verify),
    ("GET", f"{_PLACE}/resolve/{_REVISION}/(?P<path>.+)", _resolve),
]
