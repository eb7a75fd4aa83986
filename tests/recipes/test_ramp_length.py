"""The study of the ramp's length: one setting but for the length, and a picture and a table of what is stored."""

from pathlib import Path

import pytest
from pictures import colors_of
from recipe_scripts import RECIPES, load

from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


FOLDER = RECIPES / "certified" / "ramp_length"
STUDIES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_lengths_differ_in_nothing_else(path: Path) -> None:
    module = load("certified/ramp_length.py")
    study = parse(CertifiedStudyConfig, path)
    for length, results in module.collected(path).items():
        assert (FOLDER / f"{path.stem}_{length:g}").is_dir()
        found = CertifiedStudyConfig.model_validate(results["config"])
        assert found.training.model_copy(update={"ramp_epochs": study.training.ramp_epochs}) == study.training
        for key in ("data", "model", "eps", "train_eps", "reg_weight", "pgd", "arms"):
            assert getattr(found, key) == getattr(study, key), key
        for run in (run for arm in results["arms"] for run in arm["runs"]):
            assert run["seed"] in study.seeds
            assert run["verified_accuracy"] <= run["pgd_accuracy"] <= run["clean_accuracy"]


def test_what_is_stored_is_drawn_and_quoted(tmp_path: Path) -> None:
    module = load("certified/ramp_length.py")
    studies = {path.stem: module.collected(path) for path in STUDIES}
    assert {tuple(lengths) for lengths in studies.values()} == {(1, 2, 5, 10, 20)}
    module.save_figure(module.draw(studies), tmp_path / "drawn.png")
    colors = {style["color"].upper() for style in module.ARMS.values()}
    assert colors <= colors_of(tmp_path / "drawn.png")
    assert colors <= colors_of(FOLDER / "ramp_length.png")
    for lengths in studies.values():
        assert module.table(lengths) in (RECIPES / "README.md").read_text()


def test_a_folder_without_results_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digits.yaml").write_text("name: x")
    monkeypatch.setattr("sys.argv", ["ramp_length.py", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit):
        load("certified/ramp_length.py").main()
    assert "run a length first" in capsys.readouterr().err
