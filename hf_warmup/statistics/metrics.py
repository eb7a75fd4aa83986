"""Scores: what a metric is called, which way is better, and the unit in which it is printed.

A metric of a name that is known here needs no more than its name. Deliberately absent: how a score is computed.
"""

from typing import Any

from pydantic import Field

from hf_warmup.yaml_config import Strict


Record = dict[str, Any]


class Metric(Strict):
    """A score, its direction and its unit."""

    name: str = Field(min_length=1)
    """What it is called; a name that is known here needs nothing else."""
    lower_is_better: bool
    """Whether a smaller score is the better one, as of a loss."""
    in_points: bool = False
    """Whether it is a share that is printed in hundredths, as accuracies are."""
    unit: str = ""
    """What stands behind a number, such as bits; nothing by default."""

    @property
    def words(self) -> str:
        """Its name in words."""
        return _WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def suffix(self) -> str:
        """What stands after a number: " points", another unit, or nothing."""
        return " points" if self.in_points else f" {self.unit}" if self.unit else ""

    @property
    def label(self) -> str:
        """Its name with its unit, for an axis or the head of a column."""
        return f"{self.words} ({self.suffix.strip()})" if self.suffix else self.words

    @property
    def in_unit(self) -> str:
        """What stands behind a title: ", in points", or nothing."""
        return f", in{self.suffix}" if self.suffix else ""

    @property
    def factor(self) -> float:
        """What a score is multiplied by before it is printed or drawn."""
        return 100.0 if self.in_points else 1.0

    @property
    def counts_examples(self) -> bool:
        """Whether one example of n changes the score by about 1/n, so that no smaller step means anything."""
        return self.name in _COUNTING

    @property
    def usual_margin(self) -> float | None:
        """The margin of a task that states none; None where a person must state it."""
        return None if self.name in _WITHOUT_MARGIN or self.name not in METRICS else 0.01

    def number(self, value: float, *, sign: bool = False) -> str:
        """A score or difference as it is printed, without its unit."""
        if self.in_points:
            return points(value, sign=sign)
        return f"{value + 0.0:{'+' if sign else ''}.4g}".replace("-", "−")

    def side(self, difference: float) -> str:
        """Whether a difference from the baseline is better or worse."""
        return "better" if (difference > 0) != self.lower_is_better else "worse"

    def word(self, verdict: Record) -> str:
        """A verdict in a word or two: better, worse, equivalent, not decided, nothing was learned."""
        return self.side(verdict["difference"]) if verdict["verdict"] == "different" else str(verdict["verdict"])

    def gain(self, score: float) -> float:
        """A number that is larger, the better the score is."""
        return -score if self.lower_is_better else score

    def reaches(self, score: float | None, target: float) -> bool:
        """Whether a score is as good as a target; one that is no number is not."""
        return score is not None and self.gain(score) >= self.gain(target)

    def stored(self) -> Record:
        """What results say of it beside its name: nothing of a metric that is known here."""
        return {} if METRICS.get(self.name) == self else self.model_dump(exclude={"name"})


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="accuracy", lower_is_better=False, in_points=True),
        Metric(name="f1", lower_is_better=False),
        Metric(name="entity_f1", lower_is_better=False),
        Metric(name="matthews_correlation", lower_is_better=False),
        Metric(name="pearson", lower_is_better=False),
        Metric(name="spearman", lower_is_better=False),
        Metric(name="score", lower_is_better=False),
        Metric(name="loss", lower_is_better=True),
        Metric(name="perplexity", lower_is_better=True),
    )
}
_WORDS = {
    "f1": "F1",
    "entity_f1": "F1 over entities",
    "matthews_correlation": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}
_COUNTING = ("accuracy", "f1", "entity_f1", "matthews_correlation")
_WITHOUT_MARGIN = ("score", "loss", "perplexity")


def metric_of(task: Record) -> Metric:
    """The metric of a task's results: known by its name, or stated by `lower_is_better`, `in_points` and `unit`."""
    known = METRICS.get(task["metric"], Metric(name=task["metric"], lower_is_better=False))
    stated = {key: task[key] for key in ("lower_is_better", "in_points", "unit") if task.get(key) is not None}
    return known.model_copy(update=stated)


def as_metric(given: Any) -> Any:
    """A metric from its name, or from a mapping that completes or replaces what is known of the name.

    Raises:
        ValueError: if it is not known which way is better.
    """
    stated = {"name": given} if isinstance(given, str) else given
    if not isinstance(stated, dict) or not isinstance(stated.get("name"), str):
        return given
    # A Trainer logs a metric with a prefix and prints it without.
    name = stated["name"].removeprefix("eval_")
    known = METRICS[name].model_dump() if name in METRICS else {}
    if not known and "lower_is_better" not in stated:
        raise ValueError(
            f"whether a higher {name} is better is not known; write metric: {{name: {name}, lower_is_better: false}}, "
            f"or true"
        )
    return {**known, **stated, "name": name}


def points(score: float, *, sign: bool = False) -> str:
    """A score or difference in points, with a true minus sign.

    >>> points(-0.0123, sign=True), points(0.0001)
    ('−1.23', '0.01')
    """
    rounded = round(100 * score, 2) + 0.0
    return f"{rounded:+.2f}".replace("-", "−") if sign else f"{rounded:.2f}".replace("-", "−")
