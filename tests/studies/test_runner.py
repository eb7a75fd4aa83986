"""The runner, on a study that computes nothing: who runs what, what is said of it, and what a folder may hold."""

import fcntl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_lines, write_json
from hf_warmup.studies.folder import checkpoint_path, run_path, store_run
from hf_warmup.studies.progress import make_console, show_study
from hf_warmup.studies.runner import Study, run_study


@dataclass(frozen=True)
class Number:
    """A run of three updates."""

    value: int
    num_updates: int = 3

    @property
    def name(self) -> str:
        return f"number--{self.value}"

    @property
    def pair(self) -> tuple[str, int]:
        return "", self.value

    def describe(self, record: Record) -> str:
        return f"{record['kind']} of {self.value}"


def steps(cell: Number, folder: Path) -> Iterator[Record]:
    yield from ({"kind": "step", "step": step} for step in (1, 2, 3))
    yield {"kind": "evaluation", "step": 3}
    yield {"kind": "result", "value": cell.value}


CELLS = [Number(value) for value in range(3)]
STUDY = Study(
    "numbers",
    {"name": "numbers", "seeds": [0, 1, 2]},
    CELLS,
    steps,
    lambda cells, records_of: {"values": [records_of(cell)[-1]["value"] for cell in cells]},
)


def hold(folder: Path, cell: Number, seconds: float) -> None:
    """Hold a run's lock for a while, by the system's own call, as another process would."""
    path = folder / "locks" / f"{cell.name}.lock"
    path.parent.mkdir(parents=True)
    write_json(path.with_suffix(".holder"), {"pid": 17, "host": "elsewhere"})
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)

    def finish() -> None:
        time.sleep(seconds)
        if cell.value == 0:
            store_run(folder, cell.name, steps(cell, folder), on_record=lambda record: None)
        file.close()

    threading.Thread(target=finish).start()


@pytest.mark.parametrize("held", [0, 1])
def test_a_held_run_is_left_to_its_holder_and_taken_over_from_one_that_died(tmp_path: Path, held: int) -> None:
    """Number 0's holder completes it, number 1's does not."""
    hold(tmp_path, CELLS[held], 0.3)
    seen = []
    results = run_study(STUDY, tmp_path, on_record=lambda cell, record: seen.append((cell.value, record["kind"])))
    assert results is not None
    assert results["values"] == [0, 1, 2]
    assert (held, "held") in seen
    done = [value for value, kind in seen if kind == "result"]
    others = [value for value in range(3) if value != held]
    assert done == others + ([held] if held else []), "the next runs are taken, then the one that is free again"
    assert ((held, "elsewhere") in seen) == (held == 0)


def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_study(STUDY, tmp_path, make_console(), shard=(1, 2)) is None
    hold(tmp_path / "again", CELLS[0], 0.3)
    for folder in (tmp_path, tmp_path / "again"):
        assert show_study(STUDY, folder, make_console()) is not None
    printed = " ".join(capsys.readouterr().out.split())
    assert f"numbers: 2 runs into {tmp_path} " in printed
    assert "1 runs of other shards are still missing" in printed
    assert f"numbers: 3 runs into {tmp_path}, 2 of them done already" in printed
    assert "number--1: result of 1" in printed
    assert "number--0: process 17 on elsewhere is running it; going on with other runs" in printed
    assert "number--0: done by another process" in printed


def test_facts_of_a_run_come_from_its_records_not_from_the_process(tmp_path: Path) -> None:
    partial = run_path(tmp_path, "run").with_suffix(".jsonl.partial")
    partial.parent.mkdir()
    skipped = '{"kind": "step", "step": %d, "skipped": true}\n'
    # A result, an update behind the checkpoint, and a line cut short by the kill: all of it is made again.
    partial.write_text(skipped % 1 + skipped % 2 + skipped % 3 + '{"kind": "result", "diverged": true}\n{"kind"')
    (checkpoint_path(tmp_path, "run") / "step_00000002").mkdir(parents=True)
    rest = [{"kind": "step", "step": 3, "skipped": False}, {"kind": "result", "value": 1}]
    store_run(tmp_path, "run", iter(rest), on_record=lambda record: None)
    *updates, result = read_lines(run_path(tmp_path, "run"))
    assert [update["skipped"] for update in updates] == [True, True, False]
    assert result == {"kind": "result", "diverged": False, "skipped_steps": 2, "value": 1}
    lost = [{"kind": "diverged", "step": 3}, {"kind": "result", "value": 1}]
    store_run(tmp_path, "lost", iter(lost), on_record=lambda record: None)
    assert list(read_lines(run_path(tmp_path, "lost")))[-1]["diverged"] is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "numbers', "is damaged: no JSON"),
        ("[1]", "describes no study"),
        ('{"name": "letters"}', r"other settings \(name\)"),
    ],
)
def test_folders_of_something_else_are_left_alone(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        run_study(STUDY, tmp_path)
    assert (tmp_path / "study.json").read_text() == text
    assert not (tmp_path / "cells").exists()


def test_a_folder_that_another_start_claims_for_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_warmup.studies.folder.CLAIM_SECONDS", 0.01)
    (tmp_path / "locks").mkdir()
    with (tmp_path / "locks" / "study.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="has been held by another process for a minute"):
            run_study(STUDY, tmp_path)
    assert not (tmp_path / "study.json").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to .*choose another --out"):
        run_study(STUDY, tmp_path / place)
