"""`hf-warmup smoothness` fits a probe's records, draws the fit, and says which warmup follows."""

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_warmup.cli.arguments import writable
from hf_warmup.cli.output import AsJson, console_for, print_json
from hf_warmup.cli.progress import shown
from hf_warmup.errors import ConfigError
from hf_warmup.records.files import Record, write_json


if TYPE_CHECKING:
    from hf_warmup.smoothness import SmoothnessRecord


def smoothness_and_report(
    path: Path, *, f_star: float | None, quantile: float, beta2: float, out: Path, as_json: bool = False
) -> None:
    """Fit a run's measurements; write `smoothness.json` and `smoothness.png` into `out` and print what follows.

    Args:
        path: JSON lines of a `SmoothnessProbe`.
        f_star: lowest loss there is; None keeps the records' own.
        quantile: share of the measurements that shall lie at or below the fit.
        beta2: Adam's, for the untuned rule beside it.
        out: folder, made if it does not exist.
        as_json: print one JSON document instead.

    Raises:
        ConfigError: for a file that cannot be read, too few measurements, or an option out of range.
    """
    from hf_warmup.report.plots import save_figure, smoothness_figure
    from hf_warmup.smoothness.records import read_records

    records = read_records(path)
    try:
        with shown(things="fits") as tell:
            told = partial(tell, "intervals of the fit")
            document = make_document(records, f_star=f_star, quantile=quantile, beta2=beta2, progress=told)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    write_json(out / "smoothness.json", document)
    save_figure(smoothness_figure(document), out / "smoothness.png")
    numbers, picture = out / "smoothness.json", out / "smoothness.png"
    if as_json:
        print_json({**document, "numbers": numbers, "picture": picture})
        return
    console = console_for(as_json)
    for line in summary(document):
        console.print(line)
    console.print(f"Numbers: {numbers}\nPicture: {picture}")


def make_document(
    records: list["SmoothnessRecord"],
    *,
    f_star: float | None,
    quantile: float,
    beta2: float,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Measurements, fit and advice as they are stored; no advice where the data do not support the model."""
    from hf_warmup.smoothness import advise, fit_smoothness

    records = [record for record in records if math.isfinite(record.loss) and math.isfinite(record.smoothness)]
    fit = fit_smoothness(records, f_star=f_star, quantile=quantile, progress=progress)
    advice = advise(fit, records, beta2=beta2)
    columns = ("step", "loss", "gap", "smoothness", "update_norm", "hessian")
    measured = {name: [getattr(record, name) for record in records] for name in columns}
    if f_star is not None:
        measured["gap"] = [record.loss - f_star for record in records]
    return {
        "format": 1,
        "beta2": beta2,
        "fit": asdict(fit),
        "advice": asdict(advice) if fit.verdict == "supported" else None,
        "measurements": measured,
    }


def summary(document: Record) -> list[str]:
    """What a person reads."""
    from hf_warmup.smoothness import Advice, SmoothnessFit

    fit = SmoothnessFit(**document["fit"])
    lines = [
        f"{fit.n} measurements; curvature <= K0 + Krho gap^rho for {100 * fit.quantile:g} % of them, with",
        *(
            f"  {name:<5}{value:10.4g}   95 % interval {low:.4g} to {high:.4g}"
            for name, value, (low, high) in (
                ("rho", fit.rho, fit.rho_interval),
                ("K0", fit.k0, fit.k0_interval),
                ("Krho", fit.krho, fit.krho_interval),
            )
        ),
        f"  R^2  {fit.r_squared:10.3f}   of log curvature",
    ]
    if document["advice"] is None:
        return [*lines, f"The data do not support the model: {fit.verdict}. No advice follows."]
    advice = Advice(**document["advice"])
    return [
        *lines,
        f"The implied warmup starts at {advice.initial_multiplier:.3g} of the final step and amounts to a linear one "
        f"over {advice.linear_period:.0f} updates; the untuned rule takes {advice.untuned_period:.0f} "
        f"(beta2 {document['beta2']:g}).",
        f"Largest safe step of gradient descent: {advice.largest_initial_step:.3g} at the first update, "
        f"{advice.largest_final_step:.3g} at the lowest loss. They are not learning rates for Adam.",
        f"As a schedule: loss_adaptive_warmup with rho={fit.rho:.3g}, "
        f"initial_multiplier={advice.initial_multiplier:.3g}.",
    ]


def smoothness(
    records: Annotated[Path, typer.Argument(help="JSON lines of a run, from SmoothnessProbe(path=...).")],
    f_star: Annotated[float | None, typer.Option(help="Lowest loss that is possible. By default the probe's.")] = None,
    quantile: Annotated[float, typer.Option(help="Share of the measurements that lie at or below the fit.")] = 0.9,
    beta2: Annotated[float, typer.Option(help="Adam's second beta, for the untuned rule.")] = 0.999,
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of smoothness.json and smoothness.png.")] = Path(
        "smoothness"
    ),
    as_json: AsJson = False,
) -> None:
    """Fit a run's curvature as a function of its loss gap, and say which warmup follows from it."""
    smoothness_and_report(records, f_star=f_star, quantile=quantile, beta2=beta2, out=out, as_json=as_json)
