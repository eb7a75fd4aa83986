"""Reports: numbers from the results alone, a page that needs nothing else, the same bytes for the same study."""

import re
from pathlib import Path

import markupsafe
import pytest
import yaml
from synthetic_study import make_results

from hf_warmup.report.comparison import write_report
from hf_warmup.statistics.metrics import metric_of
from hf_warmup.statistics.verdicts import add_verdicts


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    return add_verdicts(make_results())


@pytest.mark.usefixtures("no_drawing")
def test_report_states_verdicts_scores_and_set_up(results: dict, tmp_path: Path) -> None:
    page = write_report(results, tmp_path)
    markdown, html = (tmp_path / "report.md").read_text(), page.read_text()
    for task in results["tasks"]:
        for verdict in task["verdicts"]:
            assert verdict["sentence"] in markdown
            assert str(markupsafe.escape(verdict["sentence"])) in html
        for arm in task["arms"]:
            mean = metric_of(task).number(arm["mean"])
            assert f"| {arm['name']} | {arm['learning_rate']:g} | {mean}" in markdown
    shown = set(re.findall(r"\]\((plots/.+?\.png)\)", markdown))
    assert shown == {f"plots/{path.name}" for path in (tmp_path / "plots").glob("*.png")}
    assert "diverged)" in markdown
    sources = re.findall(r'src="([^"]{0,30})', html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http:" not in html.replace("http-equiv", "")  # an embedded picture may spell "http" by chance
    assert "https:" not in html


@pytest.mark.usefixtures("no_drawing")
def test_same_results_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(make_results(tasks=1), tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.usefixtures("no_drawing")
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


@pytest.mark.usefixtures("no_drawing")
def test_verdicts_are_added_where_they_are_missing(results: dict, tmp_path: Path) -> None:
    write_report(make_results(), tmp_path / "bare")
    write_report(results, tmp_path / "judged")
    assert (tmp_path / "bare" / "report.md").read_bytes() == (tmp_path / "judged" / "report.md").read_bytes()


@pytest.mark.usefixtures("no_drawing")
def test_names_from_a_study_are_text_not_markup(tmp_path: Path) -> None:
    study = make_results(tasks=1)
    study["tasks"][0]["name"] = "<script>alert('|')</script>"
    page = write_report(study, tmp_path).read_text()
    markdown = (tmp_path / "report.md").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in markdown
    assert "alert('\\|')" in markdown
    assert (tmp_path / "plots" / "1-script-alert-script_learning.png").exists()


@pytest.mark.usefixtures("no_drawing")
def test_every_table_row_has_the_columns_of_its_header(results: dict, tmp_path: Path) -> None:
    write_report(results, tmp_path)
    widths: list[set[int]] = [set()]
    for line in (tmp_path / "report.md").read_text().splitlines():
        if line.startswith("|"):
            widths[-1].add(line.replace("\\|", "").count("|"))
        elif widths[-1]:
            widths.append(set())
    tables = [found for found in widths if found]
    assert len(tables) == 6
    assert all(len(found) == 1 for found in tables)


@pytest.mark.usefixtures("no_drawing")
def test_a_study_with_one_seed_and_one_rate_is_reported_with_its_limits(tmp_path: Path) -> None:
    page = write_report(make_results(seeds=1, learning_rates=(0.003,), tasks=1), tmp_path).read_text()
    assert "With 1 seed an arm" in page
    assert "All arms ran at one learning rate, 0.003" in page
    assert "One test example is 0.34 points" in page
    assert not list((tmp_path / "plots").glob("*sensitivity*"))


@pytest.mark.usefixtures("no_drawing")
def test_rates_at_an_end_of_the_grid_are_named(tmp_path: Path) -> None:
    write_report(make_results(learning_rates=(0.001, 0.003, 0.01), tasks=1), tmp_path / "wide")
    write_report(make_results(learning_rates=(0.003, 0.01), tasks=1), tmp_path / "narrow")
    wide, narrow = ((tmp_path / name / "report.md").read_text() for name in ("wide", "narrow"))
    assert "radam (0.003)" in narrow.partition("Chosen at an end of the grid")[2]
    assert "radam (0.003)" not in wide.partition("Chosen at an end of the grid")[2]


@pytest.mark.usefixtures("no_drawing")
def test_the_baseline_alone_and_missing_scores_are_reported(tmp_path: Path) -> None:
    study = make_results(tasks=1)
    task = study["tasks"][0]
    task["arms"] = task["arms"][-1:]
    task["arms"][0]["grid"][1].update(validation=[None] * 3, diverged=[True] * 3)
    page = write_report(study, tmp_path).read_text()
    assert "No arm was compared with radam." in page
    assert "– (3 diverged)" in page
    assert not (tmp_path / "plots" / "differences.png").exists()


@pytest.mark.usefixtures("no_drawing")
def test_the_study_can_be_run_again_from_its_report(tmp_path: Path) -> None:
    study = make_results(tasks=1)
    write_report(study, tmp_path)
    block = (tmp_path / "report.md").read_text().partition("````yaml\n")[2].partition("````")[0]
    assert yaml.safe_load(block) == study["config"]


@pytest.mark.usefixtures("no_drawing")
def test_arms_that_stopped_at_a_look_are_reported_with_the_plan(tmp_path: Path) -> None:
    results = make_results(seeds=8, tasks=1, learning_rates=(0.003,))
    stopped = results["tasks"][0]["arms"][1]
    stopped["runs"] = stopped["runs"][:5]
    write_report({**results, "plan": {"looks": [5, 8], "spending": "pocock"}, "tuning_seeds": [100, 101]}, tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    assert "decided at the first of two looks." in markdown
    assert "decided at the second of two looks." in markdown
    assert "- looks, declared before anything ran: after 5, 8 seeds; alpha spent by pocock" in markdown
    assert "- seeds that choose the learning rates: 100, 101" in markdown
    assert re.search(r"\| adamw\+untuned_linear_warmup \| 0.003 \| [^|]+ \| 5 \|", markdown)
