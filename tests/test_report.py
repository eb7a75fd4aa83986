"""Reports: numbers from the results alone, a page that needs nothing else, the same bytes for the same study."""

import json
import re
from pathlib import Path

import markupsafe
import pytest
from synthetic_study import make_results

from hf_warmup.report import write_report
from hf_warmup.statistics import add_verdicts


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    return add_verdicts(make_results())


def test_report_states_verdicts_scores_and_set_up(results: dict, tmp_path: Path) -> None:
    page = write_report(results, tmp_path)
    markdown, html = (tmp_path / "report.md").read_text(), page.read_text()
    for task in results["tasks"]:
        for verdict in task["verdicts"]:
            assert verdict["sentence"] in markdown
            assert str(markupsafe.escape(verdict["sentence"])) in html
        for arm in task["arms"]:
            assert f"| {arm['name']} | {arm['learning_rate']:g} | {100 * arm['mean']:.2f}" in markdown
    for name in re.findall(r"\]\((plots/.+?\.png)\)", markdown):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "diverged)" in markdown
    sources = re.findall(r'src="([^"]{0,30})', html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in html.replace("http-equiv", "")


def test_same_results_same_bytes(results: dict, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(json.loads(json.dumps(results)), tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_timings_are_ratios_to_the_baseline(results: dict, tmp_path: Path) -> None:
    task = results["tasks"][0]
    timings = {
        f"{task['name']}--{arm['name']}--0.001--{seed}": {"seconds": 10.0 * (1 + i), "steps": 100}
        for i, arm in enumerate(reversed(task["arms"]))
        for seed in range(3)
    }
    baseline = [arm["name"] for arm in reversed(task["arms"])].index(results["baseline"])
    write_report(results, tmp_path, timings=timings)
    assert f"| {results['baseline']} | {100.0 * (1 + baseline):.1f} | 1.00 |" in (tmp_path / "report.md").read_text()
