"""The keys of a study are documented in one place, from the classes that read them."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hf_warmup.cli.application import app
from hf_warmup.studies.comparison.config import StudyConfig, load_study
from hf_warmup.studies.comparison.keys import guide, sections, starting_study


GUIDE = Path(__file__).parents[2] / "recipes" / "guides" / "study_keys.md"


def test_the_guide_is_what_the_classes_say() -> None:
    assert GUIDE.read_text() == guide(), "python recipes/guides/study_keys.py"


def test_every_key_of_every_part_says_what_it_means() -> None:
    found = sections()
    assert {"", "model", "training", "arms", "plan", "tasks.splits", "tasks: kind language"} <= {
        s.place for s in found
    }
    assert {key.name for key in found[0].keys} == StudyConfig.model_fields.keys()
    nothing = [f"{section.place}.{key.name}" for section in found for key in section.keys if not key.meaning]
    assert not nothing, "give them a docstring"
    assert all(section.meaning for section in found)


def test_a_study_to_start_from_is_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    ran = CliRunner().invoke(app, ["compare", "--init", str(path)])
    assert ran.exit_code == 0, ran.output
    study = load_study(path)
    assert study.tasks[0].kind == "digits", "which needs nothing that is not installed"
    assert study.tuning_seeds
    text = path.read_text()
    # What stands in comments is what holds without it.
    inside = re.sub(r"^( *)# (\w+: .*)$", r"\1\2", text, flags=re.M)
    keys = yaml.safe_load(re.sub(r"^ *#.*$", "", inside, flags=re.M))
    assert keys["training"]["evaluate_every"] == 50
    assert keys["tasks"][0]["train_examples"] is None
    assert StudyConfig.model_validate(keys) == study
    assert starting_study(str(path)) == text
    other = yaml.safe_load(
        "\n".join(re.findall(r"^#   (.*)$", text.partition("For texts of your own")[2], flags=re.M))
    )
    assert StudyConfig.model_validate({**keys, **other}).tasks[0].kind == "text"
    again = CliRunner().invoke(app, ["compare", "--init", str(path)])
    assert again.exit_code != 0


@pytest.mark.parametrize("arguments", [["x.yaml", "training.epochs=1"], ["no/such/folder/x.yaml"]])
def test_init_writes_one_file_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no").write_text("a file")
    ran = CliRunner().invoke(app, ["compare", "--init", *arguments])
    assert ran.exit_code != 0
    assert not Path("x.yaml").exists()
