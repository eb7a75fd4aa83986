"""Where a run was made: the hardware, the code and the libraries that its numbers may depend on."""

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import torch
from accelerate import PartialState


# For a copy of the sources that has left its history behind, as in a container.
COMMIT_VARIABLE = "HF_WARMUP_COMMIT"


def hardware() -> str:
    """What each process computes on, such as "2 x NVIDIA H100 80GB HBM3" or "AMD EPYC 9B14, 8 threads"."""
    state = PartialState()
    if state.device.type == "cuda":
        name = torch.cuda.get_device_name(state.device)
    elif state.device.type == "cpu":
        threads = torch.get_num_threads()
        name = f"{_processor()}, {threads} {'thread' if threads == 1 else 'threads'}"
    else:
        name = state.device.type
    return name if state.num_processes == 1 else f"{state.num_processes} x {name}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def sources_digest() -> str:
    """SHA-256 of this package's Python files: of two trees with changes, `commit` says the same."""
    package = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def commit() -> str | None:
    """The commit of this package's sources, "with changes" if they differ from it; None if it cannot be known.

    It is that of the checkout that the package runs from, else the one that it was installed from, else the value of
    the environment variable `HF_WARMUP_COMMIT`.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        head = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", "hf_warmup")
        if head is not None and changes is not None:
            return f"{head} with changes" if changes else head
    try:
        origin = json.loads(distribution("hf-warmup").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    return origin.get("vcs_info", {}).get("commit_id") or os.environ.get(COMMIT_VARIABLE) or None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Versions of this package and of what results may depend on."""
    return {name: version(name) for name in ("hf-warmup", "torch", "transformers", "accelerate", "datasets")}


def place_of_run() -> dict[str, str | int | None]:
    """Where this process computes, by which code, and what memory it took there."""
    return {"hardware": hardware(), "peak_memory_bytes": peak_memory(), "commit": commit()}


def peak_memory() -> int | None:
    """Most bytes that this process has had on its device since the last `forget_peak_memory`; None on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def forget_peak_memory() -> None:
    """Let `peak_memory` start again from what is allocated now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
