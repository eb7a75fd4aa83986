"""Cards: the same results give the same card, the Hub's client reads its metadata back, and its lines run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st

from hf_warmup.errors import ConfigError
from hf_warmup.hub.checkpoint import check_checkpoint, scores_of
from hf_warmup.records.files import read_json
from hf_warmup.report.card import render_card, same_card
from hf_warmup.report.certification import write_certified_report
from hf_warmup.report.plots.certified import error_curves


MODEL_CARDS = Path(__file__).parents[2] / "model_cards"


@pytest.fixture(scope="module")
def checkpoint(made: tuple[Path, Path]) -> Path:
    return made[1]


@pytest.fixture(scope="module")
def results(checkpoint: Path) -> dict[str, Any]:
    return dict(read_json(checkpoint / "results.json"))


def test_card_is_generated_from_the_results(checkpoint: Path, results: dict[str, Any]) -> None:
    card = (checkpoint / "README.md").read_text()
    assert card == render_card(results) == render_card(json.loads(json.dumps(results)))
    assert f"**{results['counts']['num_verified']} of the 297 images**" in card
    assert f"`{results['weights_sha256']}`" in card
    assert not re.search(r"None|nan|\{\{|\{%", card)
    # One lucky seed is not the method.
    study = results["study"]["verified_accuracy"]
    assert f"verified {100 * study['mean']:.2f} ± {100 * study['sd']:.2f} %" in card


def test_a_single_look_at_a_training_is_seen(made: tuple[Path, Path]) -> None:
    study = read_json(made[0] / "results.json")
    for run in study["arms"][0]["runs"]:
        del run["evaluations"][:-1]
    assert [line.get_marker() for axes in error_curves(study).axes for line in axes.lines] == ["o", "o"]


@pytest.mark.usefixtures("no_drawing")
def test_documents_say_which_split_the_curves_are_on(
    made: tuple[Path, Path], results: dict[str, Any], tmp_path: Path
) -> None:
    study = read_json(made[0] / "results.json")
    looked_at = "The test split was looked at after every epoch"
    assert looked_at in render_card(results)
    changed = json.loads(json.dumps(results))
    for recipe in (study["config"], changed["recipe"]):
        recipe["data"]["validation"] = 100
    report = write_certified_report(study, tmp_path).read_text()
    assert "On the validation split, after every epoch;" in report
    for document in (report, render_card(changed)):
        assert looked_at not in document
        assert "validation split." in document


@pytest.mark.usefixtures("no_drawing")
def test_looks_that_no_recipe_says_are_told(made: tuple[Path, Path], results: dict[str, Any], tmp_path: Path) -> None:
    """A run that was begun by another recipe."""
    told = {"looks": "after epoch 1 and after the last"}
    report = write_certified_report({**read_json(made[0] / "results.json"), **told}, tmp_path).read_text()
    assert "On the test split, after epoch 1 and after the last;" in report
    for document in (report, render_card({**results, **told})):
        assert "The test split was looked at after epoch 1 and after the last" in document


def test_metadata_as_the_hub_reads_them(results: dict[str, Any]) -> None:
    card = ModelCard(render_card(results))
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-classification",
    )
    assert "hf_warmup" in data.tags
    assert data.get("datasets") is None
    measured = {each.metric_type: each for each in data.eval_results}
    verified = measured["verified_accuracy"]
    assert verified.metric_value == results["scores"]["verified"]["accuracy"]
    assert verified.metric_args["eps"] == "1/50"
    assert (verified.metric_args["n"], verified.metric_args["seed"], verified.dataset_split) == (297, 1, "test")
    assert measured["pgd_accuracy"].metric_args["n"] == 200
    assert measured["accuracy"].metric_value == results["scores"]["clean"]["accuracy"]
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    assert model_index_to_eval_results(index) == (results["name"], data.eval_results)
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()


def test_a_data_set_of_the_hub_is_linked(results: dict[str, Any]) -> None:
    other = {**results, "data": {"name": "ylecun/mnist", "split": "test"}}
    card = render_card(other)
    assert ModelCard(card).data.datasets == ["ylecun/mnist"]
    assert "takes a copy of ylecun/mnist" in card


@given(st.data())
def test_whatever_the_counts_the_card_says_them(results: dict[str, Any], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 10_000))
    verified, broken, clean = (data.draw(st.integers(0, count)) for _ in range(3))
    counts = {"num_examples": count, "num_clean": clean, "num_verified": verified}
    counts |= {"num_attacked": count, "num_broken": broken}
    name = data.draw(st.text("abc|<>[]{}%:#'\" é", min_size=1).filter(str.strip))
    scores = scores_of(counts)
    card = render_card({**results, "name": name, "counts": counts, "scores": scores})
    assert f"**{verified} of the {count} images**" in card
    assert f"| Accuracy under PGD | {count - broken} | {count} | {100 * (count - broken) / count:.2f} % |" in card
    parsed = ModelCard(card).data
    assert parsed.model_name == name
    assert [each.metric_value for each in parsed.eval_results] == [
        scores[key]["accuracy"] for key in ("verified", "pgd", "clean")
    ]


def test_what_the_card_shows_runs(
    checkpoint: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (checkpoint / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(checkpoint.parent)
    found: dict[str, Any] = {}
    exec(code, found)
    stored = read_json(checkpoint / "certificate.json")["images"]
    assert found["certificate"].verified.int().tolist() == stored["verified"][:16]
    margins = zip(found["certificate"].margin.tolist(), stored["margin"], strict=False)
    assert all(there == pytest.approx(here) if here > 0 else there is None for here, there in margins)
    [recipe] = re.findall(r"````yaml\n(.*?)````", (checkpoint / "README.md").read_text(), re.DOTALL)
    assert yaml.safe_load(recipe) == results["recipe"] == yaml.safe_load((checkpoint / "training.yaml").read_text())


@pytest.mark.parametrize("key", ["counts", "weights_sha256", "recipe", "study", "radii", "versions"])
def test_results_without_something_give_no_card(results: dict[str, Any], key: str) -> None:
    without = {name: value for name, value in results.items() if name != key}
    with pytest.raises(ConfigError, match=key):
        render_card(without)


def test_a_card_is_the_same_if_only_its_metadata_are_broken_otherwise() -> None:
    card = "---\na: 1\nb: some text\n---\n\n# Title\n"
    assert same_card(card, card.replace("some text", "some\n  text"))
    assert not same_card(card, card.replace("a: 1", "a: 2"))
    assert not same_card(card, card.replace("# Title", "#  Title"))
    assert not same_card(card, card.replace("---\n", ""))


@pytest.mark.skipif(not MODEL_CARDS.is_dir(), reason="no checkpoints are committed")
def test_committed_checkpoints_agree_with_their_cards() -> None:
    folders = sorted(path for path in MODEL_CARDS.iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        check_checkpoint(folder)
        assert read_json(folder / "results.json")["name"] == folder.name
