"""Python in processes of its own that have transformers' models, but no file of transformers' that holds a scheduler's
name, and nothing of this package: each is forked off one that stands there, where a start from nothing takes seconds.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


UNTOUCHED = ["trainer_utils", "optimization", "training_args", "trainer", "models.auto.modeling_auto"]
SERVER = f"""
import gc, json, os, sys
import transformers.modeling_utils
assert not {{"hf_warmup", *("transformers." + name for name in {UNTOUCHED})}} & set(sys.modules)
gc.freeze()
for line in sys.stdin:
    code, folder = json.loads(line)
    if os.fork() == 0:
        os.dup2(os.open(folder + "/in", os.O_RDONLY), 0)
        for stream, name in ((1, "/out"), (2, "/err")):
            os.dup2(os.open(folder + name, os.O_WRONLY | os.O_CREAT, 0o600), stream)
        exec(code, {{"__name__": "__main__"}})
        sys.stdout.flush()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Bare:
    """What the processes are forked off; calling it runs some code in the next one."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, code: str, *, sent: bytes = b"") -> Ended:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "in").write_bytes(sent)
            self._server.stdin.write(json.dumps([code, name]) + "\n")
            self._server.stdin.flush()
            returncode = int(self._server.stdout.readline())
            return Ended(returncode, (folder / "out").read_text(), (folder / "err").read_text())

    def close(self) -> None:
        """End the server."""
        self._server.communicate()
