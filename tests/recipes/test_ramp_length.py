"""The study of the ramp's length: one setting but for the length, and a picture and a table of what is stored."""

from pathlib import Path

import pytest
from pictures import colors_of
from recipe_scripts import RECIPES, load

from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.yaml_config import parse


FOLDER = RECIPES / "certified" / "ramp_length"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_lengths_differ_in_nothing_else(path: Path) -> None:
    study, same = (
        parse(CertifiedStudyConfig, each) for each in (path, RECIPES / "certified" / "digits_short_ramp.yaml")
    )
    assert path.stem == f"digits_{study.training.ramp_epochs:g}"
    free = {"ramp_epochs", "evaluate_every", "checkpoint_every"}
    assert study.training.model_dump(exclude=free) == same.training.model_dump(exclude=free)
    for key in ("data", "model", "eps", "train_eps", "reg_weight", "pgd", "arms", "seeds"):
        assert getattr(study, key) == getattr(same, key), key


def test_what_is_stored_is_drawn_and_quoted(tmp_path: Path) -> None:
    module = load("certified/ramp_length.py")
    lengths = module.collected(FOLDER)
    assert list(lengths)[:2] == [1, 2]
    module.save_figure(module.draw(lengths), tmp_path / "digits.png")
    colors = {style["color"].upper() for style in module.ARMS.values()}
    assert colors <= colors_of(tmp_path / "digits.png")
    assert module.table(lengths) in (RECIPES / "README.md").read_text()
    assert colors <= colors_of(FOLDER / "digits.png")
