"""What a release ships: sdist and wheel are built, installed alone, and do the main job where the sources are not."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import hf_warmup


ROOT = Path(__file__).parents[1]
SMALL = ["training.num_training_steps=3", "training.on_short_run=warn", "tuned_warmup_steps=2", "seeds=[0]"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from the sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    sources = folder / "sources"
    ignored = shutil.ignore_patterns(
        ".*", "runs", "__pycache__", "*.egg-info", "build", "model_cards", "recipes", "tests"
    )
    shutil.copytree(ROOT, sources, ignore=ignored)
    code = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=sources, check=True, capture_output=True)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    code = code.replace("build_sdist", "build_wheel")
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=unpacked, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_a_wheel_installed_alone_does_the_main_job(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    assert wheel.name == f"hf_warmup-{hf_warmup.__version__}-py3-none-any.whl"
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", show], text=True).strip())
    # The libraries are those of these tests; the package itself comes from the wheel.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet", str(wheel)]
    subprocess.run([*install, "--no-index", "--no-cache-dir"], check=True, capture_output=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(tmp_path / "venv" / "bin" / "hf-warmup"), "compare", *SMALL, "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["versions"]["hf-warmup"] == hf_warmup.__version__
    assert (tmp_path / "out" / "report.html").exists()
    where = subprocess.check_output(
        [python, "-c", "import hf_warmup; print(hf_warmup.__file__)"], env=environment, text=True, cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(packages)


def test_everything_that_is_no_code_is_in_the_wheel(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "hf_warmup"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix not in (".pyc", ".md"):
            assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if not name.startswith(("hf_warmup/", "hf_warmup-"))]
