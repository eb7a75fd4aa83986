"""What runs next in a comparison whose runs depend on earlier ones: rates chosen first, seeds until decided.

Everything follows from the records of complete runs, so that a study which is killed, or made by many processes, asks
for the same runs. Deliberately absent: the levels of the looks (`statistics.sequential`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hf_warmup.records.files import Record
from hf_warmup.statistics.verdicts import add_verdicts
from hf_warmup.studies.comparison.config import StudyConfig
from hf_warmup.studies.comparison.plan import Cell, judged_seeds
from hf_warmup.studies.comparison.summary import best_rate
from hf_warmup.studies.runner import Reader


def follow(
    study: StudyConfig,
    summarise: Callable[[Sequence[Cell], Reader[Cell]], Record],
    by_hand: bool,
    cells: Sequence[Cell],
    records_of: Reader[Cell],
) -> tuple[list[Cell], str]:
    """The runs that complete ones call for, and a sentence on each task that goes on.

    Behind tuning runs come the first test seeds, at the rate that each arm does best with. At a look, arms that are
    decided stop; the others and the baseline go on to the next look. An arm that once stopped stays as it is.

    Args:
        study: the comparison.
        summarise: results without verdicts.
        by_hand: run all of the study's seeds, whatever its looks.
        cells: all runs so far, complete.
        records_of: reads a run's records.
    """
    if all(cell.tuning for cell in cells):
        return _at_chosen_rates(study, cells, records_of, judged_seeds(study, by_hand=by_hand))
    if by_hand or study.plan is None:
        return [], ""
    results = add_verdicts(summarise(cells, records_of))
    found = [_after_look(study, task, cells) for task in results["tasks"]]
    return [cell for more, _ in found for cell in more], "\n".join(words for _, words in found if words)


def _at_chosen_rates(
    study: StudyConfig, cells: Sequence[Cell], records_of: Reader[Cell], seeds: Sequence[int]
) -> tuple[list[Cell], str]:
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    further, lines = [], []
    for task in study.tasks:
        chosen = []
        for arm in study.arms:
            scores: dict[float, list[float | None]] = {rate: [] for rate in study.learning_rates}
            for cell in cells:
                if (cell.task, cell.arm) == (task.name, arm):
                    scores[cell.learning_rate].append(records_of(cell)[-1]["validation"])
            rate = best_rate(scores, task.scored_by)
            chosen += [c for c in first if (c.task, c.arm, c.learning_rate) == (task.name, arm, rate)]
        further += _on_seeds(chosen, seeds)
        rates = ", ".join(f"{cell.arm.name} {cell.learning_rate:g}" for cell in chosen)
        lines.append(f"{task.name}: chosen learning rates: {rates}")
    return further, "\n".join(lines)


def _after_look(study: StudyConfig, task: Record, cells: Sequence[Cell]) -> tuple[list[Cell], str]:
    """A task's further runs, and which arms go on; none behind the last look, and where all arms are decided."""
    assert study.plan is not None
    looks = study.plan.looks
    seeds = {arm["name"]: len(arm["runs"]) for arm in task["arms"]}
    n = seeds[study.baseline]
    arms = [
        found["arm"] for found in task["verdicts"] if found["verdict"] == "not decided" and seeds[found["arm"]] == n
    ]
    if not arms or n == looks[-1]:
        return [], ""
    upcoming = looks[looks.index(n) + 1]
    last = {cell.arm.name: cell for cell in cells if cell.task == task["name"] and not cell.tuning}
    names = [arm.name for arm in study.arms if arm.name in (*arms, study.baseline)]
    further = _on_seeds([last[name] for name in names], study.first_seeds(upcoming)[n:])
    words = (
        f"{task['name']}: look {looks.index(n) + 1} of {len(looks)}, at {n} seeds, does not decide {', '.join(arms)}"
    )
    return further, f"{words}; on to {upcoming} seeds"


def _on_seeds(cells: Iterable[Cell], seeds: Sequence[int]) -> list[Cell]:
    """The same runs on other seeds, seed by seed, which judge."""
    chosen = list(cells)
    return [replace(cell, seed=seed, tuning=False) for seed in seeds for cell in chosen]
