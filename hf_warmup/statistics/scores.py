"""Verdicts on scores alone, for whoever has run both arms already: no study, no records.

Deliberately absent: statistics, which are those of a study (`verdicts`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from hf_warmup.statistics.metrics import Record
from hf_warmup.statistics.paired import Comparison
from hf_warmup.statistics.sequential import Plan
from hf_warmup.statistics.verdicts import add_verdicts


@dataclass(frozen=True)
class Verdict:
    """What the scores of one arm and a baseline show; `str` gives the sentence.

    Attributes:
        verdict: "equivalent", "different", "not decided" or "nothing was learned".
        sentence: the verdict with its evidence, and what would decide where nothing is.
        comparison: every number behind it.
    """

    verdict: str
    sentence: str
    comparison: Comparison

    def __str__(self) -> str:
        return self.sentence


def verdict(
    scores: Sequence[float] | Mapping[int, float],
    baseline_scores: Sequence[float] | Mapping[int, float],
    *,
    margin: float,
    lower_is_better: bool = False,
    resolution: float | None = None,
    constant_score: float | Sequence[float] | None = None,
    plan: Plan | None = None,
    names: tuple[str, str] = ("the arm", "the baseline"),
) -> Verdict:
    """Is one arm equivalent to a baseline, different from it, or is that not decided?

    Args:
        scores: one score a seed, or a mapping from seeds to scores.
        baseline_scores: the same of the baseline; sequences are paired by place, mappings by seed.
        margin: largest difference that still counts as equivalent, in units of the score, stated beforehand.
        lower_is_better: for losses and perplexities.
        resolution: smallest step between two scores, such as 1/300 for an accuracy on 300 examples; by default the
            step that the scores themselves show.
        constant_score: score (or scores) of a constant prediction; runs that have it learned nothing.
        plan: looks declared beforehand, if the seeds grew by one.
        names: of arm and baseline, for the sentence.

    Raises:
        ValueError: for scores that are not finite or cannot be paired, and values out of range.

    Example:
        >>> verdict([0.91, 0.92, 0.90, 0.93, 0.92], [0.80, 0.83, 0.79, 0.82, 0.83], margin=0.01).verdict
        'different'
    """
    pairs = [_by_seed(each) for each in (scores, baseline_scores)]
    if not isinstance(scores, Mapping) and not isinstance(baseline_scores, Mapping) and len(pairs[0]) != len(pairs[1]):
        raise ValueError(
            f"expected one score a seed for both arms, paired, got {len(pairs[0])} and {len(pairs[1])} scores; give "
            f"mappings from seeds to scores if some are missing."
        )
    if names[0] == names[1]:
        raise ValueError(f"arm and baseline need different names, got {names[0]!r} twice.")
    results = judge_scores(
        dict(zip(names, pairs, strict=True)),
        baseline=names[1],
        margin=margin,
        lower_is_better=lower_is_better,
        resolution=resolution,
        constant_score=constant_score,
        plan=plan,
    )
    [found] = results["tasks"][0]["verdicts"]
    numbers: Record = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    comparison = Comparison(**{key: numbers[key] for key in Comparison.__dataclass_fields__})
    return Verdict(found["verdict"], found["sentence"], comparison)


def judge_scores(
    scores: Mapping[str, Mapping[int, float]],
    *,
    baseline: str,
    margin: float,
    lower_is_better: bool = False,
    resolution: float | None = None,
    constant_score: float | Sequence[float] | None = None,
    plan: Plan | None = None,
) -> Record:
    """Results with verdicts (`add_verdicts`) of arms of which nothing is known but their scores, by arm and seed.

    Raises:
        ValueError: as `verdict`; for a score that is not finite it names arm and seed.
    """
    for name, found in scores.items():
        for seed, score in found.items():
            if not math.isfinite(score):
                raise ValueError(
                    f"scores must be finite, got {score} of {name}, seed {seed}; give a diverged run the score it has."
                )
    task = {
        "name": "",
        "metric": "score",
        "margin": margin,
        "lower_is_better": lower_is_better,
        "resolution": resolution,
        "constant_score": constant_score,
        "arms": [
            {"name": name, "runs": [{"seed": seed, "test": score} for seed, score in found.items()]}
            for name, found in scores.items()
        ],
    }
    results: Record = {"baseline": baseline, "tasks": [task]}
    return add_verdicts({**results, "plan": asdict(plan)} if plan else results)


def _by_seed(scores: Sequence[float] | Mapping[int, float]) -> dict[int, float]:
    items = scores.items() if isinstance(scores, Mapping) else enumerate(scores)
    return {seed: float(score) for seed, score in items}
