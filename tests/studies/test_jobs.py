"""Runs side by side: the same results whoever makes them, and processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_runner import CELLS, STUDY
from warm import FORKED_OFF

from hf_warmup.cli.workers import parse_jobs
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import read_json, write_json
from hf_warmup.studies import jobs
from hf_warmup.studies.comparison.config import load_study
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.jobs import Crew, number_of_jobs, runs_that_fit, state_threads
from hf_warmup.studies.progress import make_console, show_study
from hf_warmup.studies.runner import missing, run_study


SHORT = ("threads=1", "training.num_training_steps=24", "learning_rates=[0.01]", "seeds=[0]")


def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_process_makes_the_same_runs_bit_for_bit(
    small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(small_study, overrides=SHORT)
    whole = comparison_study(study)
    torch.set_num_threads(2)
    results = run_study(whole, tmp_path / "here")
    assert torch.get_num_threads() == 1, "as the study states it"
    heard: list[tuple[str, str]] = []
    out = tmp_path / "there"
    monkeypatch.setattr(jobs.multiprocessing, "get_context", lambda method: FORKED_OFF)
    with Crew(partial(comparison_study, study), out, jobs=2, threads=1) as crew:
        crew.on_record = lambda cell, record: heard.append((cell.name, record["kind"]))
        crew.ensure(1)
        assert not crew.holders(), "one run needs no second process"
        crew.ensure(3)
        until(lambda: not missing(whole.cells, out))
        [holder] = crew.holders()
    with pytest.raises(ProcessLookupError):
        os.kill(int(holder.split()[1]), 0)
    assert run_study(whole, out) == results
    for path in (tmp_path / "here" / "cells").iterdir():
        assert (out / "cells" / path.name).read_bytes() == path.read_bytes()
    assert [name for name, kind in heard if kind == "result"] == [cell.name for cell in whole.cells]
    assert {"step", "evaluation"} <= {kind for _, kind in heard}


def test_all_runs_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a crew of one process says, told by hand."""
    crew = Crew(lambda: STUDY, tmp_path, jobs=1, threads=None)
    first = iter([True])

    def run(cell: Any, folder: Path) -> Any:
        for record in STUDY.run(cell, folder):
            if next(first, False):
                for kind in ("step", "evaluation", "step", "result"):
                    crew.on_record(CELLS[2], {"kind": kind, "step": 3})
                crew.on_record(CELLS[2], {"kind": "elsewhere"})
            yield record

    study = replace(STUDY, run=run)
    assert show_study(study, tmp_path, make_console(), workers=crew) is not None
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("number--2: result of 2") == 1
    assert "9/9" in printed


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [number_of_jobs(None, threads) for threads in (None, 1, 3, 16)] == [1, 8, 2, 1]
    assert [number_of_jobs("auto", 1), number_of_jobs(5, 1), number_of_jobs(5, None)] == [8, 5, 5]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert number_of_jobs("auto", 1) == 4
    # 80 GB of which 8 are taken, and runs of 10 GB.
    assert runs_that_fit(72 * 2**30, 10 * 2**30) == 6
    assert runs_that_fit(5 * 2**30, 10 * 2**30) == 0
    monkeypatch.setattr(jobs, "PartialState", lambda: type("Two", (), {"num_processes": 2}))
    assert number_of_jobs("auto", 1) == number_of_jobs(1, 1) == 1
    with pytest.raises(ConfigError, match="--jobs 3 runs several cells at once, and the launcher's 2 processes share"):
        number_of_jobs(3, 1)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_jobs_that_are_no_number(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--jobs must be a whole number from 1 on, or auto; got '{text}'"):
        parse_jobs(text)
    assert [parse_jobs(None), parse_jobs("auto"), parse_jobs("12")] == [None, "auto", 12]


def test_threads_are_the_studys_or_its_folders(small_study: Path, tmp_path: Path) -> None:
    silent, stating = load_study(small_study), load_study(small_study, overrides=("threads=3",))
    assert "threads" not in silent.model_dump()
    assert [state_threads(each, tmp_path, asked=asked).threads for each in (silent, stating) for asked in (0, 1)] == [
        None,
        1,
        3,
        3,
    ]
    write_json(tmp_path / "study.json", {"threads": 2})
    assert [state_threads(silent, tmp_path, asked=asked).threads for asked in (False, True)] == [2, 2]
    write_json(tmp_path / "study.json", {})
    assert state_threads(silent, tmp_path, asked=False) is silent
    with pytest.raises(ConfigError, match="was begun without --jobs, .*Leave --jobs out, or choose another --out"):
        state_threads(silent, tmp_path, asked=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_all_processes_end_with_the_first(small_study: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C reaches the whole group of a terminal's processes, a kill the first one only."""
    command = [sys.executable, "-m", "hf_warmup", "compare", str(small_study), "training.num_training_steps=1000000"]
    command += ["training.evaluate_every=1000000", "--out", str(tmp_path / "out"), "--jobs", "2"]
    first = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def others() -> set[int]:
        found = {read_json(path)["pid"] for path in (tmp_path / "out").glob("locks/digits*.holder")}
        return found - {first.pid}

    def ended() -> bool:
        stat = Path(f"/proc/{other}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    until(others)
    [other] = others()
    (os.killpg if how == signal.SIGINT else os.kill)(first.pid, how)
    text = first.communicate(timeout=60)[0]
    assert first.returncode == (130 if how == signal.SIGINT else -how), text
    assert "Traceback" not in text
    until(ended, 20.0)
