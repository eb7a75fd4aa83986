"""What `hf-warmup compare` prints at its end: a line an arm, all arms at once, and rates at an end of the grid."""

import pytest
from synthetic_study import make_results

from hf_warmup.cli.compare import _print_summary, verdict_table
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.progress import make_console


def test_one_line_an_arm(capsys: pytest.CaptureFixture[str]) -> None:
    results = add_verdicts({**make_results(seeds=5, tasks=1), "plan": {"looks": [5, 8]}})
    _print_summary(make_console(), results)
    lines = capsys.readouterr().out.splitlines()
    title, header, *arms = lines[:6]
    assert title.strip() == "digits: test accuracy, margin ±1.00 points"
    assert header.split() == ["arm", "rate", "mean", "n", "difference", "verdict", "look"]
    rows = {line.split()[0]: line.split() for line in arms}
    assert list(rows) == [arm["name"] for arm in results["tasks"][0]["arms"]]
    assert rows["radam"][-1] == "baseline"
    numbers = ["0.003", "95.96", "5", "+0.27", "(−0.28", "to", "+0.81)"]
    assert rows["adamw+untuned_linear_warmup"][1:] == [*numbers, "equivalent", "1", "of", "2"]
    assert lines[6].startswith("All 3 arms against radam at once (Dunnett's test")
    assert lines[7].startswith("Chosen at an end of the grid")


def test_one_rate_and_no_looks_take_no_column() -> None:
    [task] = add_verdicts(make_results(learning_rates=(0.003,), tasks=1))["tasks"]
    header = [column.header for column in verdict_table(task, "radam").columns]
    assert header == ["arm", "mean", "n", "difference", "verdict"]
