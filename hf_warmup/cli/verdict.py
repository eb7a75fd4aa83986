"""`hf-warmup verdict` reads scores from a CSV file and prints a line for each arm."""

import csv
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record


COLUMNS = ("seed", "arm", "score")

Scores = dict[str, dict[int, float]]


def judge_and_print(
    path: Path,
    *,
    margin: float,
    baseline: str | None,
    lower_is_better: bool,
    resolution: float | None,
    explain: bool,
    as_json: bool = False,
) -> None:
    """Print a verdict on every arm of a file but the baseline, which is its first arm unless named.

    Raises:
        ConfigError: for a file that cannot be read, and scores that cannot be judged.
    """
    from hf_warmup.statistics.scores import judge_scores

    scores = read_scores(path)
    if len(scores) < 2:
        raise ConfigError(
            f"{path}: a verdict needs an arm and a baseline, got {len(scores)} arms: {', '.join(scores)}."
        )
    name = baseline or next(iter(scores))
    try:
        results = judge_scores(
            scores, baseline=name, margin=margin, lower_is_better=lower_is_better, resolution=resolution
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    [task] = results["tasks"]
    if as_json:
        print_json({"baseline": name, "margin": margin, **task})
        return
    console = console_for(as_json, soft_wrap=False)
    console.print(_table(task, baseline=name, margin=margin))
    for line in [found["sentence"] for found in task["verdicts"]] if explain else []:
        console.print(f"- {line}", soft_wrap=True)
    for line in unpaired(scores, name):
        console.print(line, soft_wrap=True)
    if task["simultaneous"]:
        console.print(task["simultaneous"], soft_wrap=True)


def _table(task: Record, *, baseline: str, margin: float) -> Table:
    """One row for each arm but the baseline."""
    from hf_warmup.statistics.metrics import metric_of
    from hf_warmup.statistics.sentences import p_value

    metric = metric_of(task)
    # Eighty columns hold it: a terminal that folds numbers hides them.
    table = Table(
        title=f"against {baseline}, margin ±{metric.number(margin)}", title_justify="left", box=None, pad_edge=False
    )
    for column in ("arm", "verdict", "difference", "95 % interval", "n", "p equal", "p differ", "more"):
        table.add_column(column, justify="left" if column in ("arm", "verdict") else "right", no_wrap=True)
    for found in task["verdicts"]:
        ends = [_signed(end, margin) for end in found["t_interval"] or ()]
        numbers = (found["tost_p"], found["ttest_p"])
        table.add_row(
            found["arm"],
            metric.word(found),
            _signed(found["difference"], margin),
            " to ".join(ends),
            str(found["n"]),
            *("" if p is None else p_value(p).removeprefix("= ") for p in numbers),
            "" if found["more_seeds_needed"] is None else f"+{found['more_seeds_needed']}",
        )
    return table


def _signed(number: float, margin: float) -> str:
    """A difference, to a hundredth of the margin's leading digit."""
    return f"{number:+.{max(0, 2 + math.ceil(-math.log10(margin)))}f}"


def read_scores(path: Path) -> Scores:
    """Scores by arm and seed, from a CSV file with the columns seed, arm and score.

    Raises:
        ConfigError: if the file or a column is missing, a value is not a number, or an arm has a seed twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise ConfigError(
                    f"{path}: no column {', '.join(missing)}; the first line must name {', '.join(COLUMNS)}, got "
                    f"{', '.join(reader.fieldnames or []) or 'nothing'}."
                )
            scores: Scores = {}
            for row in reader:
                _add(scores, row, f"{path}, line {reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from None
    if not scores:
        raise ConfigError(f"{path}: no scores below its first line.")
    return scores


def unpaired(scores: Scores, baseline: str) -> list[str]:
    """A sentence for each arm that does not have all of the baseline's seeds, or has more: those do not count."""
    lines = []
    for arm, found in scores.items():
        alone = sorted(found.keys() ^ scores[baseline].keys())
        if alone:
            seeds = ", ".join(map(str, alone[:8])) + (", ..." if alone[8:] else "")
            lines.append(f"{arm}: seeds that only {arm} or {baseline} has do not count: {seeds}.")
    return lines


def _add(scores: Scores, row: dict[str, str | None], where: str) -> None:
    if None in row:
        raise ConfigError(f"{where}: more values than columns; a number has a point, and a text with commas quotes.")
    arm = (row["arm"] or "").strip()
    if not arm:
        raise ConfigError(f"{where}: the arm has no name.")
    try:
        if any("_" in (row[name] or "") or not (row[name] or "").isascii() for name in ("seed", "score")):
            raise ValueError
        seed, score = int(row["seed"] or ""), float(row["score"] or "")
    except ValueError:
        raise ConfigError(
            f"{where}: seed must be a whole number and score a number, got {row['seed']!r} and {row['score']!r}."
        ) from None
    if seed in scores.setdefault(arm, {}):
        raise ConfigError(f"{where}: arm {arm} has seed {seed} twice; give one score a seed.")
    scores[arm][seed] = score


def verdict(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES.csv", help="A table with the columns seed, arm and score.")
    ],
    margin: Annotated[
        float, typer.Option(help="Largest difference that counts as equivalent, in units of the score.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Arm that the others are compared with. By default the first.")
    ] = None,
    lower_is_better: Annotated[
        bool,
        typer.Option("--lower-is-better/--higher-is-better", help="Which scores are better; lower ones for losses."),
    ] = False,
    resolution: Annotated[
        float | None, typer.Option(help="Smallest step of a score, such as 0.01 for 100 test examples.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each verdict's sentence, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge scores that you have already: say whether each arm is equivalent to a baseline, or different."""
    judge_and_print(
        scores,
        margin=margin,
        baseline=baseline,
        lower_is_better=lower_is_better,
        resolution=resolution,
        explain=explain,
        as_json=as_json,
    )
