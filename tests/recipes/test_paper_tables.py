"""The papers' tables: ours beside theirs, on made-up results and on those that are committed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from recipe_scripts import load

from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


FOLDER = Path(__file__).parents[2] / "recipes" / "certified"
VALUES = yaml.safe_load((FOLDER / "published" / "values.yaml").read_text())
NUM_TEST = 10_000


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load("certified/tables.py")


def run_of(seed: int, standard: float, verified: float) -> dict[str, Any]:
    """A run with these errors in percent."""
    shares = {"clean_accuracy": round(1 - standard / 100, 4), "verified_accuracy": round(1 - verified / 100, 4)}
    counts = {"num_verified": round(NUM_TEST * shares["verified_accuracy"]), "num_examples": NUM_TEST}
    middle = {"pgd_accuracy": (shares["clean_accuracy"] + shares["verified_accuracy"]) / 2, "num_attacked": NUM_TEST}
    return {"seed": seed, "diverged": False, **shares, **counts, **middle}


def make_study(folder: Path, recipe: str, runs: dict[str, list[tuple[float, float]]], *overrides: str) -> Path:
    """A folder with results: of each arm, standard and verified error of seed after seed."""
    config = parse(CertifiedStudyConfig, FOLDER / f"{recipe}.yaml", overrides=overrides).model_dump(mode="json")
    config["arms"] = [arm for arm in config["arms"] if arm["name"] in runs]
    arms = []
    for arm in config["arms"]:
        made = [run_of(seed, *errors) for seed, errors in enumerate(runs[arm["name"]])]
        means = {
            key: {"mean": sum(run[key] for run in made) / len(made), "sd": None}
            for key in ("clean_accuracy", "pgd_accuracy", "verified_accuracy")
        }
        arms.append({"name": arm["name"], "n": len(made), **means, "runs": made})
    folder.mkdir()
    document = {"name": config["name"], "config": config, "sizes": {"train": 50_000, "test": NUM_TEST}, "arms": arms}
    (folder / "results.json").write_text(json.dumps(document))
    return folder


def row_of(printed: str, setting: str, kind: str) -> str:
    (line,) = (line for line in printed.splitlines() if f"| {setting} | {kind} |" in line)
    return line


OURS = [(51.5, 65.3), (51.9, 65.9), (51.7, 65.6)]
SETTING = "CIFAR-10, eps 8/255, CNN-7, 160 epochs"


def test_ours_stand_beside_the_papers(tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(tmp_path / "one", "cifar10_eps8_255_160", {"short_warmup": OURS})
    assert tables.main([str(folder), "--check"]) == 0
    printed = capsys.readouterr().out
    line = row_of(printed, f"{SETTING}: Ours", "verified")
    assert "| Shi et al., arXiv 2103.17268, Table 1 |" in line
    assert "| 65.58 ± 0.32 | 65.60 ± 0.30 | 3 | 160 | +0.02 (+0.1 sd) |" in line
    assert "| 51.72 ± 0.40 | 51.70 ± 0.20 | 3 | 160 | -0.02 (-0.0 sd) |" in row_of(
        printed, f"{SETTING}: Ours", "standard"
    )
    assert "not run" in row_of(printed, f"{SETTING}: Vanilla IBP", "verified")
    assert "investigate" not in printed.lower()


def test_the_same_setting_under_another_name_counts_and_seeds_are_taken_once(
    tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = make_study(
        tmp_path / "both", "cifar10_eps8_255_160", {"vanilla_ibp": [(53.8, 67.0)], "short_warmup": OURS[:1]}
    )
    more = make_study(tmp_path / "more", "cifar10_eps8_255_160_short_warmup", {"short_warmup": OURS})
    plain = ["training.precision=float32", "training.evaluate_every=1"]
    other = make_study(
        tmp_path / "other", "cifar10_eps8_255_160", {"short_warmup": [(10.0, 20.0)]}, *plain, "eps=7/255"
    )
    assert tables.main([str(both), str(more), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "| 65.60 ± 0.30 | 3 |" in row_of(printed, f"{SETTING}: Ours", "verified")
    assert "| 67.00 | 1 | 160 | -0.01 (-0.0 sd) |" in row_of(printed, f"{SETTING}: Vanilla IBP", "verified")
    # Another radius is another setting, and comes last without a comparison.
    last = "| cifar10_eps8_255_160 | short_warmup | uoft-cs/cifar10 | 7/255 | cnn7 | 160 | 1 | 10.00 | 20.00 |"
    assert last in printed.splitlines()
    less = make_study(tmp_path / "less", "cifar10_eps8_255_160", {"short_warmup": OURS[:2]}, *plain)
    assert tables.main([str(less)]) == 0
    assert "| 65.60 ± 0.42 | 2 |" in row_of(capsys.readouterr().out, f"{SETTING}: Ours", "verified")
    twice = make_study(tmp_path / "twice", "cifar10_eps8_255_160", {"short_warmup": [(51.0, 65.0)]})
    assert tables.main([str(more), str(twice)]) == 2
    assert "seed 0 of short_warmup is there twice, with two results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verified", "is_far"), [(66.22, False), (66.23, True), (64.94, False), (64.93, True), (65.58, False)]
)
def test_what_is_two_deviations_away_is_to_be_investigated(
    tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], verified: float, is_far: bool
) -> None:
    folder = make_study(tmp_path / "far", "cifar10_eps8_255_160", {"short_warmup": [(51.72, verified)]})
    assert tables.main([str(folder), "--check"]) == int(is_far)
    printed = capsys.readouterr().out
    assert ("**investigate**" in row_of(printed, f"{SETTING}: Ours", "verified")) == is_far
    assert (f"Investigate: {SETTING}: Ours, verified error: {verified:.2f} is outside" in printed) == is_far
    assert tables.main([str(folder)]) == 0


def test_numbers_of_a_complete_verifier_and_without_deviation_decide_nothing(
    tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_study(tmp_path / "long", "cifar10_eps8_255_240", {"short_warmup": [(51.0, 70.0)]})
    assert tables.main([str(folder), "--check"]) == 0
    line = row_of(capsys.readouterr().out, "CIFAR-10, eps 8/255, CNN-7, 240 epochs, precise BN: IBP", "verified")
    assert "| 64.72 | 70.00 | 1 | 240 | +5.28 | by a complete verifier there |" in line


def change_run(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document["arms"][0]["runs"][0].update(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_run(pgd_accuracy=0.3), "verified 0.347 <= PGD 0.3 <= clean 0.485 does not hold"),
        (change_run(clean_accuracy=0.41), "<= clean 0.41 does not hold"),
        (change_run(num_attacked=1000), "attacked on 1000 of 10000 test images"),
        (change_run(num_examples=1000), "judged on 1000"),
        (change_run(num_verified=3471), "3471 of 10000 images are not 0.347"),
        (change_run(diverged=True), "short_warmup--0 diverged"),
        (lambda document: document["arms"][0]["verified_accuracy"].update(mean=0.36), "mean of verified_accuracy"),
        (lambda document: document.pop("sizes"), "no results of"),
        (lambda document: document.pop("arms"), "no results of"),
    ],
)
def test_results_that_cannot_be_right_are_refused(
    tables: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], Any],
    reason: str,
) -> None:
    folder = make_study(tmp_path / "one", "cifar10_eps8_255_160", {"short_warmup": OURS})
    document = json.loads((folder / "results.json").read_text())
    change(document)
    (folder / "results.json").write_text(json.dumps(document))
    assert tables.main([str(folder)]) == 2
    found = capsys.readouterr()
    assert reason in found.err
    assert found.out == ""


def test_a_folder_without_results_is_refused(
    tables: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables.main([str(tmp_path)]) == 2
    assert "a folder of a finished" in capsys.readouterr().err


def test_committed_results_are_collected(tables: ModuleType, tmp_path: Path) -> None:
    assert tables.main(["--out", str(tmp_path / "tables.md")]) == 0
    written = (tmp_path / "tables.md").read_text()
    committed = sorted(FOLDER.glob("*/results.json"))
    assert committed
    for path in committed:
        document = json.loads(path.read_text())
        for arm in document["arms"]:
            mean, sd = (arm["verified_accuracy"][name] for name in ("mean", "sd"))
            mean = f"{100 * (1 - mean):.2f}" + ("" if sd is None else f" ± {100 * sd:.2f}")
            lines = [line for line in written.splitlines() if mean in line]
            assert any(arm["name"] in line or "Ours" in line for line in lines), (path, arm["name"])


def test_published_values_are_those_that_the_recipes_name() -> None:
    """Each recipe's first lines name its expected values; here they are once more, with their place in the paper."""
    assert len(VALUES["tables"]) >= 7
    for table in VALUES["tables"]:
        path = FOLDER / f"{table['recipe']}.yaml"
        text = path.read_text()
        study = parse(CertifiedStudyConfig, path)
        known = {
            arm.name: arm.model_dump(include={"ibp_init", "tightness", "relu_balance", "batch_norm"})
            for arm in study.arms
        }
        for row in table["rows"]:
            switches = VALUES["methods"][row["method"]]
            assert {row["table"], row["row"]} - {""}, table["setting"]
            assert row["standard"][0] < row["verified"][0]
            if row["method"] in known:
                assert known[row["method"]] == switches
                error = row["verified"][0]
                # A recipe states errors, or accuracies where its paper does.
                assert re.search(rf"\b({error:.2f}|{100 - error:.2f})\b", text), (path.name, row)
        assert any(row["method"] in known for row in table["rows"])
