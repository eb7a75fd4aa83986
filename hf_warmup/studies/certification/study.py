"""Certified training as the runner takes it: methods x seeds on one data set."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from accelerate import PartialState

from hf_warmup.data.images import ImageData
from hf_warmup.records.files import Record
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.plan import CertifiedCell, epoch_length, plan_certified
from hf_warmup.studies.certification.run import OnModel, model_config, run_certified_cell
from hf_warmup.studies.certification.summary import summarise_certified
from hf_warmup.studies.runner import Study


def certified_study(
    config: CertifiedStudyConfig, data: ImageData, *, on_model: OnModel | None = None
) -> Study[CertifiedCell]:
    """Plan all runs and hand them to the runner.

    Args:
        config: the recipe.
        data: what it trains on and is judged by, loaded.
        on_model: told of each run's model, see `run_certified_cell`.

    Raises:
        ConfigError: if there are too few examples for one update, or a model's settings do not exist.
    """
    for arm in config.arms:
        model_config(config.model, data, arm)
    length = epoch_length(config.training, len(data.train), PartialState().num_processes)
    cells = plan_certified(config, length)

    def run(cell: CertifiedCell, folder: Path) -> Iterator[Record]:
        return run_certified_cell(config, data, cell, folder=folder, on_model=on_model)

    summarise = partial(summarise_certified, config, data)
    return Study(config.name, config.model_dump(mode="json"), cells, run, summarise)
