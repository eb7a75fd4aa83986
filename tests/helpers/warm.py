"""Programs in processes of their own that need not import the libraries first: each is forked off a server that has.

A start costs milliseconds instead of seconds, and nothing is drawn. Signals, exit codes, output and environment are
those of a real process; what a library reads while it is imported is the server's. Real launchers are tested where
the launcher is the point.
"""

import gc
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from matplotlib.figure import Figure


PRELOADED = ["datasets", "torch", "transformers.trainer", "hf_warmup.cli.compare", "hf_warmup.cli.train"]
FORKED_OFF = multiprocessing.get_context("forkserver")
FORKED_OFF.set_forkserver_preload(PRELOADED)


class Program:
    """A started program, on one process or on several ranks, as `subprocess.Popen` would show it."""

    def __init__(self, arguments: list[str], *, environment: dict[str, str] | None = None, ranks: int = 1) -> None:
        self._folder = Path(tempfile.mkdtemp())
        environment = dict(os.environ if environment is None else environment)
        self._processes = []
        port = _free_port() if ranks > 1 else 0
        for rank in range(ranks):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            own = environment | ({key: str(value) for key, value in place.items()} if ranks > 1 else {})
            process = FORKED_OFF.Process(target=_run, args=(arguments, own, str(Path.cwd()), str(self._folder), rank))
            process.start()
            self._processes.append(process)

    @property
    def pid(self) -> int:
        """Of the first rank."""
        return self._processes[0].pid or 0

    @property
    def returncode(self) -> int | None:
        """0 where all ranks ended well; the first failure's otherwise; None while any runs."""
        codes = [process.exitcode for process in self._processes]
        return next((code for code in codes if code), None if None in codes else 0)

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def kill(self) -> None:
        """End all ranks at once."""
        for process in self._processes:
            process.kill()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end, once; standard output and standard error of all ranks, one behind the other."""
        deadline = time.monotonic() + timeout
        while None in [process.exitcode for process in self._processes]:
            if self.returncode or time.monotonic() > deadline:
                # A rank that failed leaves the others waiting for it.
                self.kill()
            self._processes[0].join(0.02)
        found = [
            "".join((self._folder / f"{stream}{rank}").read_text() for rank in range(len(self._processes)))
            for stream in ("out", "err")
        ]
        shutil.rmtree(self._folder)
        return found[0], found[1]


def draw_nothing(figure: Figure, file: BinaryIO, **options: object) -> None:
    """Instead of `Figure.savefig`."""
    file.write(b"\x89PNG")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(arguments: list[str], environment: dict[str, str], folder: str, output: str, rank: int) -> None:
    """What `python ARGUMENTS` does, in the forked process."""
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}/{name}{rank}", os.O_WRONLY | os.O_CREAT, 0o600), stream)
    gc.freeze()
    Figure.savefig = draw_nothing  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    module = arguments[0] == "-m"
    program = arguments[1] if module else arguments[0]
    sys.argv = [program, *arguments[2 if module else 1 :]]
    if module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
