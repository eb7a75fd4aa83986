"""Pictures: what is drawn is what the results say, divergence is visible, arms keep their looks, files repeat."""

import copy
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import colors_of
from PIL import Image
from synthetic_study import make_results

from hf_warmup.report import plots
from hf_warmup.report.plots.over_seeds import over_seeds, smooth
from hf_warmup.report.plots.style import _columns
from hf_warmup.statistics.verdicts import add_verdicts


NAN = math.nan


@pytest.fixture(scope="module")
def results() -> dict:
    return add_verdicts(make_results())


@pytest.fixture(scope="module")
def diverged() -> dict:
    """One learning rate only, so that the arm that diverges keeps the rate at which it does."""
    return add_verdicts(make_results(learning_rates=(0.01,), tasks=1))


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def lines_of(figure: Figure, panel: int, color: str) -> list:
    return [line for line in figure.axes[panel].lines if line.get_color() == color]


def test_smoothing_keeps_lines_ends_and_gaps() -> None:
    steps = np.arange(1.0, 41.0)
    assert smooth(steps, 3 * steps, width=9) == pytest.approx(3 * steps, rel=1e-12)
    values = np.where(steps % 2 == 0, 1.0, -1.0)
    smoothed = smooth(steps, values, width=8)
    assert (smoothed[0], smoothed[-1]) == (-1.0, 1.0)
    assert abs(smoothed[10:30]).max() < 0.2
    values[5] = NAN
    assert np.flatnonzero(np.isnan(smooth(steps, values, width=8))).tolist() == [5]
    assert np.isnan(smooth(steps, np.full(40, NAN), width=8)).all()


def test_mean_and_range_over_seeds_by_hand() -> None:
    steps = array(1, 2, 3)
    spread = over_seeds([(steps, array(1, 2, 3)), (steps, array(3, 2, 7))])
    assert spread.mean.tolist() == [2, 2, 5]
    assert (spread.low.tolist(), spread.high.tolist()) == ([1, 2, 3], [3, 2, 7])
    assert spread.survivors == ()


def test_the_mean_ends_with_the_first_run_and_the_others_go_on() -> None:
    spread = over_seeds([(array(1, 2, 4, 6), array(1, 2, 4, 6)), (array(1, 2, 3), array(1, 2, 3))])
    assert spread.steps.tolist() == [1, 2, 3]
    assert spread.mean.tolist() == [1, 2, 3]
    [(steps, values)] = spread.survivors
    assert (steps.tolist(), values.tolist()) == ([4, 6], [4, 6])


def test_nothing_is_drawn_before_a_runs_first_value_or_for_a_run_without_any() -> None:
    steps = array(1, 2, 3)
    late = over_seeds([(steps, array(NAN, 2, 3)), (steps, array(1, 2, 3))])
    assert np.isnan(late.mean[0])
    assert late.mean[1:].tolist() == [2, 3]
    empty = over_seeds([(steps, array(NAN, NAN, NAN)), (steps, array(1, 2, 3))])
    assert len(empty.mean) == 0
    assert len(empty.survivors) == 1


def test_arms_differ_in_color_or_dash_and_look_alike_in_every_picture(results: dict) -> None:
    styles = plots.arm_styles(results)
    assert styles["radam"]["color"] == "#000000"
    task = results["tasks"][0]
    for figure in (plots.learning_curves(results, task), plots.update_magnitudes(results, task)):
        for name, style in styles.items():
            assert lines_of(figure, 0, style["color"]), name
    arms = [{"name": f"arm{k}"} for k in range(20)] + [{"name": "radam"}]
    many = plots.arm_styles({"baseline": "radam", "tasks": [{"arms": arms}]})
    looks = {(style["color"], str(style["linestyle"])) for style in many.values()}
    assert len(looks) == len(many)


def test_learning_curves_show_the_mean_of_the_validation_scores(results: dict) -> None:
    task = results["tasks"][1]
    arm = task["arms"][-1]
    line = lines_of(plots.learning_curves(results, task), 1, "#000000")[0]
    expected = np.mean([[e["validation"] for e in run["evaluations"]] for run in arm["runs"]], axis=0)
    assert line.get_ydata() == pytest.approx(expected, rel=1e-12)


def test_a_single_look_is_seen(results: dict) -> None:
    once = copy.deepcopy(results)
    for arm in once["tasks"][0]["arms"]:
        for run in arm["runs"]:
            del run["evaluations"][:-1]
    for given, markers in ((results, {"None"}), (once, {"o"})):
        figure = plots.learning_curves(given, given["tasks"][0])
        color = plots.arm_styles(given)["radam"]["color"]
        assert {line.get_marker() for line in lines_of(figure, 1, color)} == markers


def test_a_diverged_run_is_marked_and_the_others_go_on(diverged: dict) -> None:
    task = diverged["tasks"][0]
    color = plots.arm_styles(diverged)["adamw"]["color"]
    assert [run["diverged"] for run in task["arms"][0]["runs"]] == [False, False, True]
    figure = plots.learning_curves(diverged, task)
    drawn = lines_of(figure, 0, color)
    assert [line.get_marker() for line in drawn].count("x") == 1
    assert drawn[0].get_xdata()[-1] == 120
    assert [line.get_xdata()[-1] for line in drawn[1:3]] == [600, 600]
    assert "a run diverged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_first_updates_leave_out_zeros_and_all_that_comes_later(results: dict) -> None:
    study = make_results(tasks=1)
    for run in study["tasks"][0]["arms"][-1]["runs"]:
        run["curve"]["update_mean"][:5] = [0.0] * 5
    left, right = plots.update_magnitudes(study, study["tasks"][0]).axes
    line = [line for line in right.lines if line.get_color() == "#000000"][0]
    assert np.isnan(line.get_ydata()[:5]).all()
    assert np.isfinite(line.get_ydata()[5:]).all()
    assert max(line.get_xdata()) == 100
    assert left.get_xscale() == left.get_yscale() == right.get_yscale() == "log"


def test_learning_rates_are_shares_of_each_arms_own(results: dict) -> None:
    study = make_results(tasks=1)
    study["tasks"][0]["arms"][0]["learning_rate"] *= 2
    figure = plots.learning_rate_curves(study, study["tasks"][0])
    tops = {line.get_color(): max(line.get_ydata()) for line in figure.axes[0].lines}
    assert tops["#000000"] == pytest.approx(1.0)
    assert tops[plots.arm_styles(study)["adamw"]["color"]] == pytest.approx(0.5)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "adamw (0.006)"
    assert labels[-1] == "radam (0.003)"


def test_forest_shows_differences_intervals_margin_and_verdicts(results: dict) -> None:
    figure = plots.differences(results)
    assert len(figure.axes) == 2
    for axes, task in zip(figure.axes, results["tasks"], strict=True):
        # An accuracy is drawn in points, a correlation as it is.
        factor = 100 if task["metric"] == "accuracy" else 1
        band = axes.patches[0]
        assert (band.get_x(), band.get_width()) == pytest.approx((-0.01 * factor, 0.02 * factor))
        texts = [text.get_text() for text in axes.texts]
        for verdict in task["verdicts"]:
            side = {"different": "better" if verdict["difference"] > 0 else "worse"}
            assert side.get(verdict["verdict"], verdict["verdict"]) in texts
            at = pytest.approx([factor * verdict["difference"]])
            point = [line for line in axes.lines if line.get_xdata() == at]
            assert len(point) == 1
            open_symbol = point[0].get_markerfacecolor() == "white"
            assert open_symbol == (verdict["verdict"] == "not decided")
            ends = [factor * end for end in verdict["t_interval"] or ()]
            drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
            assert not ends or any(each == pytest.approx(ends) for each in drawn)


def test_a_loss_is_drawn_in_its_own_unit_and_the_smaller_one_is_better() -> None:
    study = make_results(seeds=5, tasks=1, learning_rates=(0.003,))
    study["tasks"][0] |= {"metric": "loss", "unit": "nats", "resolution": 1e-6}
    found = add_verdicts(study)
    axes = plots.differences(found).axes[0]
    assert axes.get_title(loc="left") == "digits: loss, nats above radam, lower is better (band: margin ±0.01)"
    assert "better" in [text.get_text() for text in axes.texts], "no warmup has the smaller scores"
    assert plots.learning_curves(found, found["tasks"][0]).axes[1].get_title(loc="left") == "Validation loss (nats)"


def test_forest_cuts_far_intervals_with_an_arrow() -> None:
    study = add_verdicts(make_results(seeds=2, tasks=1))
    verdict = study["tasks"][0]["verdicts"][1]
    verdict["t_interval"] = [-5.0, 0.02]
    axes = plots.differences(study).axes[0]
    left, _ = axes.get_xlim()
    assert left > -500
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "<"] == [left]
    assert not [line for line in axes.lines if line.get_marker() == ">"]


def test_forest_of_one_seed_has_points_only() -> None:
    axes = plots.differences(add_verdicts(make_results(seeds=1, tasks=1))).axes[0]
    assert [text.get_text() for text in axes.texts].count("not decided") == 3


def test_sensitivity_marks_divergence_and_fills_the_chosen_rate(results: dict) -> None:
    task = results["tasks"][0]
    axes = plots.learning_rate_sensitivity(results, task).axes[0]
    color = plots.arm_styles(results)["adamw"]["color"]
    drawn = [line for line in axes.lines if line.get_color() == color]
    assert [line.get_marker() for line in drawn].count("x") == 1
    symbols = [line for line in drawn if line.get_marker() == "s"]
    assert [line.get_markerfacecolor() for line in symbols] == [color, "white"]
    mean = 100 * np.mean(task["arms"][0]["grid"][1]["validation"])
    assert symbols[1].get_ydata()[0] == pytest.approx(mean)
    # The diverged run's chance score does not squeeze everything else.
    assert axes.get_ylim()[0] > 50


@pytest.mark.parametrize(("metric", "worse"), [("accuracy", 0.03), ("loss", 0.97)])
def test_a_diverged_run_is_marked_where_scores_are_worse(results: dict, metric: str, worse: float) -> None:
    task = {**results["tasks"][0], "metric": metric}
    axes = plots.learning_rate_sensitivity(results, task).axes[0]
    [cross] = [line for line in axes.lines if line.get_marker() == "x"]
    assert cross.get_ydata()[0] == worse


def test_legends_use_the_fewest_rows_that_fit() -> None:
    assert _columns([5, 5, 5], 9.0) == 3
    assert _columns([27, 32, 18, 19, 5, 5], 9.2) == 3
    assert _columns([200, 200], 9.0) == 1
    assert _columns([5], 9.0) == 1


def test_pictures_are_black_on_white_whatever_a_person_has_set(results: dict, tmp_path: Path) -> None:
    def drawn(name: str) -> bytes:
        plots.save_figure(plots.differences(results), tmp_path / name)
        return (tmp_path / name).read_bytes()

    usual = drawn("usual.png")
    with matplotlib.style.context("dark_background"), matplotlib.rc_context({"savefig.transparent": True}):
        assert drawn("dark.png") == usual
    assert Image.open(tmp_path / "usual.png").convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_files_repeat_and_are_whole(results: dict, tmp_path: Path) -> None:
    one, two = (plots.save_pictures(plots.pictures(make_and_judge()), tmp_path / name) for name in ("one", "two"))
    assert [picture.name for picture in one] == [picture.name for picture in two]
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(f"{picture.name}.{kind}" for picture in one for kind in ("png", "svg"))
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for path in (tmp_path / "one").glob("*.png"):
        assert "#D55E00" in colors_of(path), "the first arm is in every picture"
    for path in (tmp_path / "one").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def make_and_judge() -> dict:
    study = make_results(tasks=1)
    study["tasks"][0]["name"] = "a/b"
    return add_verdicts(study)


def test_tasks_whose_names_are_no_file_names_do_not_meet_in_one_file() -> None:
    study = make_results()
    study["tasks"][0]["name"] = "a/b"
    study["tasks"][1]["name"] = "a b"
    names = [picture.name for picture in plots.pictures(add_verdicts(study))]
    assert len(set(names)) == len(names) == 9
    assert "1-a-b_learning" in names


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [
        (1, 12, "after every epoch"),
        (5, 70, "after every 5 epochs"),
        (5, 12, "after every 5 epochs and after the last"),
        (70, 70, "after the last epoch alone"),
        (99, 70, "after the last epoch alone"),
        (1, 1, "after the last epoch alone"),
    ],
)
def test_documents_say_when_a_training_was_looked_at(every: int, epochs: int, expected: str) -> None:
    recipe = {"training": {"evaluate_every": every, "epochs": epochs}}
    assert plots.looks({}, recipe) == expected
