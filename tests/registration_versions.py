"""Runs the registration's tests against several transformers, each in a fresh environment with little else in it.

python tests/registration_versions.py [VERSION...]

Not collected by pytest, as it installs packages: some minutes and 1 GB of disk per version, one after another.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path


VERSIONS = ("4.57.6", "5.0.0", "5.23.0")
TORCH = "2.13.0"
ROOT = Path(__file__).resolve().parents[1]


def passes_on(version: str) -> bool:
    """Whether tests/test_registry.py passes on this version of transformers."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python")
        packages = [f"torch=={TORCH}", f"transformers=={version}", "accelerate", "pytest"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        # What was asked for must be what is tested, and the checkout must be the package that is imported.
        check = (
            "import hf_warmup, transformers, pathlib, sys; "
            f"sys.exit(transformers.__version__ != {version!r} or "
            f"pathlib.Path(hf_warmup.__file__).resolve().parents[1] != pathlib.Path({str(ROOT)!r}))"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([python, "-c", check], env=environment, check=True)
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_registry.py"]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def main(versions: Sequence[str]) -> int:
    """Try every version, say how each went, and return 1 if one failed."""
    passed = {version: passes_on(version) for version in versions or VERSIONS}
    for version, ok in passed.items():
        print(f"transformers {version}: {'passed' if ok else 'FAILED'}")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
