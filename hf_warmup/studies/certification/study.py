"""Certified training as the runner takes it: methods x seeds on one data set."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from accelerate import PartialState

from hf_warmup.data.images import ImageData
from hf_warmup.records.files import Record
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.studies.certification.model import check_model, file_digest
from hf_warmup.studies.certification.plan import CertifiedCell, epoch_length, plan_certified
from hf_warmup.studies.certification.run import OnModel, run_certified_cell
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
        ConfigError: if there are too few examples for one update, a model's settings do not exist, or a person's own
            model cannot be had or trained on this data.
    """
    for arm in config.arms:
        check_model(config.model, data, arm)
    length = epoch_length(config.training, len(data.train), PartialState().num_processes)
    cells = plan_certified(config, length)

    def run(cell: CertifiedCell, folder: Path) -> Iterator[Record]:
        return run_certified_cell(config, data, cell, folder=folder, on_model=on_model)

    summarise = partial(summarise_certified, config, data)
    record = config.model_dump(mode="json")
    if (digest := file_digest(config.model)) is not None:
        # A run that goes on with another network than it began with would be neither's.
        record["model"] = {**record["model"], "file_sha256": digest}
    return Study(config.name, record, cells, run, summarise)
