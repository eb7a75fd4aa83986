"""Registration on several versions of transformers, each in a fresh virtual environment.

    python tests/lr_scheduler/registration_versions.py [VERSION ...]

Needs a package index; not collected by pytest.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


VERSIONS = ("4.57.6", "5.0.0", "5.23.0")
ROOT = Path(__file__).resolve().parents[2]


def passes(version: str) -> bool:
    """Whether the registration tests pass on this version."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        packages = ["torch==2.13.0", f"transformers=={version}", "accelerate", "pillow", "pytest"]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        # Only these are there: registration must ask for no more.
        command = [
            python,
            "-m",
            "pytest",
            "-q",
            "--noconftest",
            "-c",
            os.devnull,
            str(ROOT / "tests" / "lr_scheduler" / "test_registration.py"),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, env=environment, cwd=folder, check=False).returncode == 0


def main() -> None:
    """Test each version and leave with 1 if one fails."""
    results = {version: passes(version) for version in sys.argv[1:] or VERSIONS}
    for version, passed in results.items():
        print(f"transformers {version}: {'passed' if passed else 'FAILED'}")
    sys.exit(0 if all(results.values()) else 1)


if __name__ == "__main__":
    main()
