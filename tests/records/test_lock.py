"""Locks: one holder at a time, who is known, and none after a kill."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from hf_warmup.records.files import write_json
from hf_warmup.records.lock import Lock


HOLD = """
import sys, time
from pathlib import Path
from hf_warmup.records.files import write_json
from hf_warmup.records.lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


def test_a_lock_has_one_holder_and_frees_itself_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "cell.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    lock = Lock(path)
    assert not lock.acquire()
    assert lock.holder().startswith(f"process {other.pid} on ")
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert lock.acquire(wait=10)
    assert lock.holder().startswith(f"process {os.getpid()} on ")
    lock.release()
    lock.release()
    assert lock.holder() == "another process", "nobody has signed"
    assert Lock(path).acquire()


def test_a_holder_that_has_not_yet_signed_is_another_process(tmp_path: Path) -> None:
    assert Lock(tmp_path / "cell.lock").holder() == "another process"


def test_a_holder_that_signs_a_moment_later_is_named(tmp_path: Path) -> None:
    signing = threading.Timer(0.03, write_json, (tmp_path / "cell.holder", {"pid": 7, "host": "here"}))
    signing.start()
    assert Lock(tmp_path / "cell.lock").holder() == "process 7 on here"
    signing.join()
