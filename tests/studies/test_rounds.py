"""Seeds until decided, and rates on seeds of their own: what runs, whatever is killed and however work is shared."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hf_warmup.cli.compare import _print_summary
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, read_json, write_json
from hf_warmup.report.comparison import write_report
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import PlanConfig, StudyConfig, load_study
from hf_warmup.studies.comparison.looks import declare_plan, with_looks_without_plan
from hf_warmup.studies.comparison.plan import Cell
from hf_warmup.studies.comparison.study import comparison_study
from hf_warmup.studies.progress import make_console, show_study
from hf_warmup.studies.runner import Study, run_study


pytestmark = pytest.mark.usefixtures("no_drawing")


# Differences from the baseline, in hundredths. Later seeds differ less, so that equivalence within 4 points is decided
# at 8 seeds and not at 5.
NOISE = (4, -4, 3, -3, 1, 0, 0, 0)
MARGIN = "tasks.0.margin=0.04"


def fake_run(cell: Cell, folder: Path) -> Iterator[Record]:
    """Scores that depend on the arm, the rate and the seed alone."""
    level = {"adamw": 0.5, "adamw+untuned_linear_warmup": 0.9, "radam": 0.9}[cell.arm.name]
    noise = 0.0 if cell.arm.name == "radam" else 0.01 * NOISE[cell.seed % len(NOISE)]
    validation = level if cell.learning_rate == {"adamw": 0.001}.get(cell.arm.name, 0.01) else 0.2
    test = {} if cell.tuning else {"test": level + noise}
    yield {"kind": "result", "validation": validation, **test}


def study_of(path: Path, *overrides: str, plan: tuple[int, ...] | None = None, by_hand: bool = False) -> Study[Cell]:
    config = load_study(path, overrides=(MARGIN, *overrides))
    if plan:
        config = StudyConfig.model_validate({**dict(config), "plan": PlanConfig(looks=list(plan))})
    return replace(comparison_study(config, by_hand=by_hand), run=fake_run)


decided_study = partial(study_of, plan=(5, 8, 12))
ONE_RATE = "learning_rates=[0.01]"


def seeds_of(results: Record) -> dict[str, list[int]]:
    return {arm["name"]: [run["seed"] for run in arm["runs"]] for arm in results["tasks"][0]["arms"]}


def test_decided_arms_get_no_more_seeds_and_the_baseline_gets_all(small_study: Path, tmp_path: Path) -> None:
    results = run_study(decided_study(small_study, ONE_RATE), tmp_path / "out")
    assert results is not None
    assert read_json(tmp_path / "out" / "study.json")["plan"] == {"looks": [5, 8, 12], "spending": "pocock"}
    assert results["plan"] == {"looks": [5, 8, 12], "spending": "pocock"}
    assert {name: len(seeds) for name, seeds in seeds_of(results).items()} == {
        "adamw": 5,
        "adamw+untuned_linear_warmup": 8,
        "radam": 8,
    }
    assert results["seeds"] == list(range(8))
    worse, equal = add_verdicts(results)["tasks"][0]["verdicts"]
    assert worse["verdict"] == "different"
    assert worse["sentence"].endswith("decided at the first of three looks.")
    assert equal["verdict"] == "equivalent"
    assert equal["sentence"].endswith("decided at the second of three looks.")


def test_kills_and_shards_change_nothing(small_study: Path, tmp_path: Path) -> None:
    study = decided_study(small_study, ONE_RATE)
    whole = run_study(study, tmp_path / "whole")
    left = 0

    def killed(cell: Cell, folder: Path) -> Iterator[Record]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        yield from fake_run(cell, folder)

    # Within the first look, at its end, and within the second look.
    for count in (2, 13, 3):
        left = count
        with pytest.raises(KeyboardInterrupt):
            run_study(replace(study, run=killed), tmp_path / "killed")
    assert run_study(study, tmp_path / "killed") == whole

    # The second shard ends the first look and waits at the second one.
    shares = [run_study(study, tmp_path / "shards", shard=shard) for shard in ((1, 2), (2, 2), (1, 2), (2, 2))]
    assert shares == [None, None, whole, whole]


def test_a_study_ends_at_its_last_look_and_says_what_it_waits_for(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(small_study, ONE_RATE, "tasks.0.margin=0.03", plan=(5, 6))
    assert show_study(study, tmp_path, make_console(), shard=(1, 2)) is None
    results = show_study(study, tmp_path, make_console())
    printed = " ".join(capsys.readouterr().out.split())
    assert "what comes next depends on them: start each shard again" in printed
    assert "digits: look 1 of 2, at 5 seeds, does not decide adamw+untuned_linear_warmup; on to 6 seeds" in printed
    assert results is not None
    found = add_verdicts(results)["tasks"][0]["verdicts"][1]
    assert found["sentence"].endswith("not decided at the second of two looks.")


def test_rates_are_chosen_on_seeds_of_their_own(small_study: Path, tmp_path: Path) -> None:
    study = study_of(small_study, "tuning_seeds=[100, 101]")
    assert [cell.tuning for cell in study.cells] == [True] * 12
    results = run_study(study, tmp_path)
    assert results is not None
    assert results["tuning_seeds"] == [100, 101]
    [task] = results["tasks"]
    rates = {arm["name"]: arm["learning_rate"] for arm in task["arms"]}
    assert rates == {"adamw": 0.001, "adamw+untuned_linear_warmup": 0.01, "radam": 0.01}
    assert seeds_of(results) == dict.fromkeys(rates, [0, 1])
    assert task["arms"][0]["grid"][0] == {"learning_rate": 0.001, "validation": [0.5, 0.5], "diverged": [False] * 2}
    names = sorted(path.name for path in (tmp_path / "cells").iterdir())
    assert len(names) == 18, "twelve tuning runs and two seeds at each arm's rate"
    assert "digits--adamw--0.001--0.jsonl" in names
    assert "digits--adamw--0.01--0.jsonl" not in names


def test_tuning_seeds_and_looks_go_together(small_study: Path, tmp_path: Path) -> None:
    results = run_study(decided_study(small_study, "tuning_seeds=[3]"), tmp_path)
    assert results is not None
    assert results["seeds"] == [0, 1, 2, 4, 5, 6, 7, 8], "a tuning seed never judges"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("tuning_seeds=[0, 7]",), "every seed must be named once"),
        (("tuning_seeds=[7]", ONE_RATE), "give two rates or more"),
        (("plan={looks: [5, 8]}",), "tuning_seeds"),
        (("plan={looks: [3, 8]}", ONE_RATE), "begin at 5 or more pairs"),
    ],
)
def test_studies_that_cannot_decide_are_refused(small_study: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(small_study, overrides=overrides)


def test_a_plan_is_declared_once(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study, overrides=(ONE_RATE,))
    asked = partial(declare_plan, study, tmp_path)
    plain = {"until_decided": False, "max_seeds": None, "by_hand": False}
    assert asked(**plain) == study
    declared = asked(**{**plain, "until_decided": True, "max_seeds": 10}).plan
    assert declared is not None
    assert declared.looks == [5, 8, 10]
    for changes, message in (
        ({"until_decided": True, "by_hand": True}, "leave --seeds out"),
        ({"max_seeds": 10}, "goes with --until-decided"),
        ({"until_decided": True, "max_seeds": 4}, "--max-seeds: .*looks must increase and begin at 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            asked(**{**plain, **changes})
    write_json(tmp_path / "study.json", {"plan": declared.model_dump()})
    for again in (plain, {**plain, "until_decided": True}, {**plain, "max_seeds": 10}, {**plain, "by_hand": True}):
        assert asked(**again).plan == declared
    with pytest.raises(ConfigError, match="begun with looks after 5, 8, 10 seeds, and a plan stays"):
        asked(**{**plain, "until_decided": True, "max_seeds": 12})
    write_json(tmp_path / "study.json", {"name": "small"})
    with pytest.raises(ConfigError, match="begun without a plan"):
        asked(**{**plain, "until_decided": True})


def test_seeds_added_by_hand_are_told(small_study: Path, tmp_path: Path) -> None:
    """Outside a plan from the beginning, and behind a plan's last look."""
    results: Record = {}
    for count, looks in ((3, None), (5, [3]), (5, [3]), (6, [3, 5])):
        study = study_of(small_study, ONE_RATE, f"seeds={list(range(count))}")
        found = run_study(study, tmp_path / "plain")
        assert found is not None
        results = add_verdicts(with_looks_without_plan(found, tmp_path / "plain"))
        assert results.get("looks_without_plan") == looks
        write_json(tmp_path / "plain" / "results.json", results)
    assert "seeds were added outside a plan" in results["tasks"][0]["verdicts"][0]["sentence"]

    run_study(decided_study(small_study, ONE_RATE), tmp_path / "planned")
    by_hand = decided_study(small_study, ONE_RATE, f"seeds={list(range(14))}", by_hand=True)
    found = run_study(by_hand, tmp_path / "planned")
    assert found is not None
    assert set(map(len, seeds_of(found).values())) == {14}
    assert "seeds were added outside a plan" in add_verdicts(found)["tasks"][0]["verdicts"][0]["sentence"]


@pytest.mark.parametrize("lost", ["adamw", "radam"])
def test_runs_without_a_score_are_a_result(
    small_study: Path, tmp_path: Path, lost: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm, or the baseline, whose runs all end with nothing but NaN: it stops, and the report says it."""

    def run(cell: Cell, folder: Path) -> Iterator[Record]:
        *_, result = fake_run(cell, folder)
        nan = float("nan") if cell.seed % 2 else None
        if cell.arm.name == lost:
            yield {"kind": "diverged", "step": 1}
            result |= dict.fromkeys(result.keys() - {"kind"}, nan)
        yield result

    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(b"\x89PNG"))
    study = replace(decided_study(small_study, "tuning_seeds=[100]"), run=run)
    results = show_study(study, tmp_path, make_console())
    assert results is not None
    results = add_verdicts(results)
    [task] = results["tasks"]
    assert len(seeds_of(results)[lost]) == 5
    assert [found["arm"] for found in task["verdicts"]] == ([] if lost == "radam" else ["adamw+untuned_linear_warmup"])
    sentence = f"{lost} cannot be judged on digits: it diverged on all 5 seeds"
    sentence += "; so no arm can be compared with it." if lost == "radam" else "."
    assert task["unscored"] == {lost: sentence}
    write_report(results, tmp_path)
    assert sentence in (tmp_path / "report.md").read_text()
    _print_summary(make_console(), results)
    assert sentence in capsys.readouterr().out
