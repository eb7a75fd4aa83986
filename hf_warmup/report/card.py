"""Writes model cards from a checkpoint's `results.json` alone: metadata for the Hub, and a text for people.

The same results always give the same card. Deliberately absent: text typed by hand, and numbers that are not in the
results.
"""

import re
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record
from hf_warmup.report.certification import spread
from hf_warmup.report.comparison import template_environment
from hf_warmup.report.plots import looks


TAGS = ["hf_warmup", "certified-robustness", "adversarial-robustness", "interval-bound-propagation"]
# Comes with scikit-learn, so the Hub has no data set of this name to link to.
EMBEDDED = {"digits": "scikit-learn's digits"}
_SCORES = {"clean": "Clean accuracy", "pgd": "Accuracy under PGD", "verified": "Verified accuracy"}
# Losses of other papers: name, authors and year, address.
_LOSSES = {
    "crown_ibp": ("CROWN-IBP", "Zhang et al. 2020", "https://arxiv.org/abs/1906.06316"),
    "sabr": ("SABR", "Müller et al. 2023", "https://arxiv.org/abs/2210.04871"),
    "mtl_ibp": ("MTL-IBP", "De Palma et al. 2024", "https://arxiv.org/abs/2305.13991"),
    "cc_ibp": ("CC-IBP", "De Palma et al. 2024", "https://arxiv.org/abs/2305.13991"),
    "exp_ibp": ("Exp-IBP", "De Palma et al. 2024", "https://arxiv.org/abs/2305.13991"),
}
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def render_card(results: Record) -> str:
    """The card, README.md, of a checkpoint.

    Args:
        results: the content of its `results.json`.

    Raises:
        ConfigError: if something that a card says is missing there.
    """
    try:
        content = {
            "storage": None,
            "proofs": None,
            "loss": _loss(results["recipe"]),
            **results,
            "metadata": card_data(results).to_yaml(),
            "data_name": _data_name(results),
            "rows": [_row(title, results["scores"][key]) for key, title in _SCORES.items()],
            "recipe_text": recipe_text(results["recipe"]),
            "spreads": {key: f"{spread(results['study'][f'{key}_accuracy'])} %" for key in _SCORES},
            "arm": results["recipe"]["arms"][0],
            "looks": looks(results, results["recipe"]),
            "before": _before_rounding(results),
        }
        return template_environment(html=False).get_template("model_card.md.j2").render(content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, jinja2.TemplateError) as error:
        raise ConfigError(
            f"results.json is not as this version writes it, so there is no card ({type(error).__name__}: {error})."
        ) from None


def card_data(results: Record) -> ModelCardData:
    """The card's metadata; accuracies are fractions, each with radius, norm, number of images and seed."""
    data, scores = results["data"], results["scores"]
    about = {"eps": results["eps"], "eps_value": results["eps_value"], "norm": results["norm"]}
    seed = results["training"]["seed"]
    arguments: Record = {
        "verified": {**about, "verifier": results["verifier"]},
        "pgd": {**about, "attack": "PGD", **results["attack"]},
        "clean": {},
    }
    measured = [
        EvalResult(
            task_type=results["task"],
            dataset_type=data["name"],
            dataset_name=_data_name(results),
            dataset_config=data.get("subset"),
            dataset_split=data["split"],
            metric_type="accuracy" if key == "clean" else f"{key}_accuracy",
            metric_name=f"{_SCORES[key]}{'' if key == 'clean' else ' at eps ' + results['eps']}",
            metric_value=scores[key]["accuracy"],
            metric_args={**extra, "n": scores[key]["of"], "seed": seed},
        )
        for key, extra in arguments.items()
    ]
    return ModelCardData(
        license=results["license"],
        library_name="transformers",
        pipeline_tag=results["task"],
        tags=TAGS,
        datasets=None if data["name"] in EMBEDDED else [data["name"]],
        metrics=["accuracy"],
        model_name=results["name"],
        eval_results=measured,
    )


def same_card(one: str, other: str) -> bool:
    """Whether two cards say the same: metadata by value (line breaks are the YAML writer's), the rest exactly."""
    return _parts(one) == _parts(other)


def _parts(card: str) -> tuple[Any, str]:
    front = _FRONT.match(card)
    if front is None:
        return None, card
    try:
        return yaml.safe_load(front[1]), card[front.end() :]
    except yaml.YAMLError:
        return None, card


def recipe_text(recipe: Record) -> str:
    """A recipe as `training.yaml` holds it."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)


def _loss(recipe: Record) -> tuple[str, str, str] | None:
    method = recipe["arms"][0].get("method") or recipe["training"].get("method")
    return _LOSSES.get(method)


def _data_name(results: Record) -> str:
    name, subset = str(results["data"]["name"]), results["data"].get("subset")
    return EMBEDDED.get(name, name) if subset is None else f"{name} ({subset})"


def _row(title: str, score: Record) -> list[str]:
    low, high = score["interval"]
    percent = f"{100 * score['accuracy']:.2f} %"
    return [title, str(score["count"]), str(score["of"]), percent, f"{100 * low:.2f} to {100 * high:.2f} %"]


def _before_rounding(results: Record) -> Record | None:
    """The study's counts, where they are other than those of the weights as stored."""
    counts: Record | None = results.get("storage", {}).get("study_counts")
    same = counts is None or all(counts[key] == results["counts"][key] for key in counts)
    return None if same else counts
