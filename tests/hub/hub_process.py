"""A client of the test Hub: a process of its own, as huggingface_hub reads its settings only once."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_server import HubServer
from hub_store import User


CLIENT = Path(__file__).parent / "hub_client.py"
WRITER, READER, STRANGER = (f"hf_{name}TokenThatNobodyMaySee0123456789" for name in ("writer", "reader", "stranger"))
# As old tokens look; nothing but its owner's settings says that it is one.
ODD = "api-org-OddlyNamed"
USERS = {
    WRITER: User("ada", ("lab",)),
    ODD: User("ada", ("lab",)),
    READER: User("ada", ("lab",), role="read"),
    STRANGER: User("eve"),
}


@dataclass(frozen=True)
class Reply:
    """What came of a request to a client."""

    value: Any
    error: str | None
    printed: str


class Client:
    """A process with an empty cache that knows one Hub; as many requests as one likes."""

    def __init__(self, hub: HubServer, home: Path) -> None:
        self._home = home
        self._log = (home / "errors.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(CLIENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(hub, home),
        )

    def __call__(self, verb: str, *, token: str | None = WRITER, **arguments: Any) -> Reply:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"verb": verb, "token": token, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.errors()[-3000:]
        assert not [token for token in USERS if token in line], "a token was printed"
        return Reply(**json.loads(line))

    def errors(self) -> str:
        """All that went to the error stream."""
        self._log.seek(0)
        return self._log.read()

    def elsewhere(self, verb: str, **arguments: Any) -> Reply:
        """The same on another machine, whose cache has nothing of the Hub before and which this one never hears of."""
        kept = self._home / "hub", self._home / "hub of this machine"
        if kept[0].exists():
            kept[0].rename(kept[1])
        try:
            return self(verb, **arguments)
        finally:
            shutil.rmtree(kept[0], ignore_errors=True)
            if kept[1].exists():
                kept[1].rename(kept[0])

    def close(self) -> None:
        self._process.communicate(timeout=60)
        self._log.close()


def environment(hub: HubServer, home: Path) -> dict[str, str]:
    """For a client: this Hub and an empty cache, nothing else of Hugging Face's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    switches = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **dict.fromkeys(switches, "1")}


def held(hub: HubServer, repo_id: str, kind: str = "models", branch: str = "main") -> dict[str, bytes]:
    """What a repository holds, without the file that the Hub itself put there."""
    files = hub.store.repositories[kind, repo_id].commit(branch).files
    return {path: blob.content for path, blob in files.items() if path != ".gitattributes"}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def num_commits(hub: HubServer, repo_id: str, kind: str = "models", branch: str = "main") -> int:
    """Commits besides the Hub's first."""
    return len(hub.store.repositories[kind, repo_id].branches[branch]) - 1
