"""Records: finite JSON, whole files, lines that survive a kill."""

import json
import math
from pathlib import Path

import pytest

from hf_warmup.records.files import RecordFile, finite, read_json, read_lines, write_json


def test_non_finite_numbers_become_null_at_any_depth() -> None:
    document = {"a": [1.0, math.nan, {"b": math.inf}], "c": (-math.inf, 2), "d": "nan"}
    assert finite(document) == {"a": [1.0, None, {"b": None}], "c": [None, 2], "d": "nan"}


def test_json_round_trip_is_exact_and_repeatable(tmp_path: Path) -> None:
    document = {"x": [0.1, 1e-300, 3], "y": None}
    write_json(tmp_path / "one.json", document)
    write_json(tmp_path / "two.json", document)
    assert read_json(tmp_path / "one.json") == document
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_failed_write_leaves_the_old_document_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_record_file_appears_only_when_sealed(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl"
    file = RecordFile(path, keep=[{"step": 1}])
    file.append({"step": 2, "loss": math.nan})
    assert not path.exists()
    file.seal()
    assert list(read_lines(path)) == [{"step": 1}, {"step": 2, "loss": None}]
    assert not file.partial.exists()


def test_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "cell.jsonl.partial"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert list(read_lines(path)) == [{"step": 1}]
