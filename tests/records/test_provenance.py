"""Where a run was made is written down with it, and a run made in parts counts all of them."""

import json
import subprocess
from pathlib import Path

import pytest

from hf_warmup.records import provenance
from hf_warmup.studies.folder import read_provenance, read_timings, run_path, store_run


STEP = {"kind": "step", "step": 1}
EVALUATION = {"kind": "evaluation", "step": 1}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's module as if it lay in `tmp_path/hf_warmup`, with no record of where it was installed from."""
    (tmp_path / "hf_warmup" / "records").mkdir(parents=True)
    module = tmp_path / "hf_warmup" / "records" / "provenance.py"
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    monkeypatch.delenv(provenance.COMMIT_VARIABLE, raising=False)
    provenance.commit.cache_clear()
    yield tmp_path
    provenance.commit.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_commit_is_that_of_the_checkout_and_says_if_sources_differ(sources: Path) -> None:
    git(sources, "init", "-q")
    git(sources, "add", ".")
    git(sources, "commit", "-qm", "one")
    (sources / "notes.txt").write_text("not the package")
    head = git(sources, "rev-parse", "HEAD")
    assert provenance.commit() == head
    provenance.commit.cache_clear()
    (sources / "hf_warmup" / "provenance.py").write_text("# changed")
    assert provenance.commit() == f"{head} with changes"


def test_commit_outside_a_checkout(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def read_text(self, name: str) -> str:
            return json.dumps({"url": "https://example.org", "vcs_info": {"vcs": "git", "commit_id": "abc"}})

    class Elsewhere:
        def read_text(self, name: str) -> None:
            return None

    monkeypatch.setattr(provenance, "distribution", lambda name: Elsewhere())
    assert provenance.commit() is None
    provenance.commit.cache_clear()
    monkeypatch.setenv(provenance.COMMIT_VARIABLE, "def")
    assert provenance.commit() == "def"
    provenance.commit.cache_clear()
    monkeypatch.setattr(provenance, "distribution", lambda name: Installed())
    assert provenance.commit() == "abc"


def test_hardware_names_processor_and_threads() -> None:
    assert provenance.hardware().endswith(("thread", "threads"))
    assert provenance.peak_memory() is None


def test_cost_of_a_run_made_in_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> object:
        yield STEP
        yield EVALUATION
        yield STEP
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_warmup.records.provenance.hardware", lambda: "first machine")
    monkeypatch.setattr("hf_warmup.records.provenance.commit", lambda: "c1")
    with pytest.raises(KeyboardInterrupt):
        store_run(tmp_path, "run", interrupted(), on_record=lambda record: None)
    monkeypatch.setattr("hf_warmup.records.provenance.hardware", lambda: "second machine")
    store_run(tmp_path, "run", iter([STEP, STEP, STEP, EVALUATION]), on_record=lambda record: None)
    assert run_path(tmp_path, "run").exists()
    cost = read_timings(tmp_path)["run"]
    # Of the first part what its last evaluation had behind it.
    assert [part["steps"] for part in cost["parts"]] == [1, 3]
    assert cost["steps"] == 4
    assert cost["seconds"] == sum(part["seconds"] for part in cost["parts"])
    assert read_provenance(tmp_path) == {"hardware": "first machine; second machine", "commit": "c1"}


def test_provenance_of_nothing_is_unknown(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {"hardware": None, "commit": None}


def test_costs_of_an_earlier_version_do_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "timings").mkdir()
    (tmp_path / "timings" / "run.json").write_text('{"seconds": 1.0, "steps": 2}')
    assert read_provenance(tmp_path) == {"hardware": None, "commit": None}
    store_run(tmp_path, "run", iter([STEP]), on_record=lambda record: None)
    assert read_timings(tmp_path)["run"]["steps"] == 1
