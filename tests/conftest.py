"""Shared: a study small enough to run in seconds, and the surroundings that every test expects."""

import gc
import os


# Before any library reads them: nothing in the suite may reach for the network, and two ranks share two cores.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

import shutil  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402


COMPILING = {"tests/certified/test_methods.py": "tests/bounds/test_fast_compiled.py"}
SMALL_STUDY = """
name: small
model:
  architecture: vit
  config: {hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, patch_size: 4}
tasks: [{name: digits, kind: digits, splits: {validation: 100, test: 100}, train_examples: 200, target: 0.1}]
training: {num_training_steps: 24, batch_size: 8, beta2: 0.75, evaluate_every: 10}
tuned_warmup_steps: 4
learning_rates: [1.0e-3, 1.0e-2]
seeds: [0, 1]
arms:
  - {name: adamw, optimizer: adamw}
  - {name: adamw+untuned_linear_warmup, optimizer: adamw, warmup: untuned_linear_warmup}
  - {name: radam, optimizer: radam}
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Workers take whole files, in order: what a file's tests share is made once, and so are a Hub and its clients."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            # One Hub; and two files that compile, as torch takes seconds to get ready for the first time.
            return "tests/hub" if file.startswith("tests/hub/") else COMPILING.get(file, file)

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    """A YAML of 12 cells of 24 updates."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_STUDY)
    return path


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_no_garbage() -> None:
    """Each run of a study collects garbage; looking through all that was ever imported takes longer than the run."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate's states are shared by all instances: one test's settings must not reach the next."""
    yield
    if "accelerate" in sys.modules:
        AcceleratorState._reset_state(True)
        GradientState._reset_state()


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: for tests that look at no picture. A report's pictures take two seconds."""
    from warm import draw_nothing

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", draw_nothing)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished study's folder and the checkpoint made of it, once for all workers; nobody changes them."""
    from made_checkpoint import make_checkpoint

    base = tmp_path_factory.getbasetemp()
    return make_checkpoint(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def copied(made: tuple[Path, Path], tmp_path: Path) -> Callable[[int], Path]:
    """Makes a copy of the study (0) or the checkpoint (1) that may be changed."""
    return lambda which: Path(shutil.copytree(made[which], tmp_path / made[which].name))
