"""Run by both of two processes whose folders differ, as those of machines without a shared disk: FOLDER is the base.

They must agree on everything, and none may wait for what the other does not do.
"""

import sys
from itertools import islice
from pathlib import Path

import torch
from accelerate import PartialState

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.cli.compare import compare_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.training import TrainConfig, TrainRecord
from hf_warmup.training.accelerator import decide, join_processes


base = Path(sys.argv[1])
join_processes()
rank = PartialState().process_index
assert PartialState().num_processes == 2
own = base / f"disk{rank}"


def say(text: str) -> None:
    (base / f"said{rank}").open("a").write(f"{text}\n")


def updates(folder: Path, count: int) -> list[TrainRecord]:
    """The first records of a run that keeps checkpoints in a folder."""
    torch.manual_seed(0)
    model, data = torch.nn.Linear(2, 1), torch.utils.data.TensorDataset(torch.ones(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    accelerator = make_accelerator()
    records = train(
        accelerator,
        model,
        optimizer,
        get_schedule(optimizer, 2, 8, warmup="linear_warmup"),
        shuffled_loader(data, batch_size=2, seed=0),
        lambda model, batch, step: (model(batch[0]).square().mean(), {"drawn": torch.rand(())}),
        TrainConfig(8, checkpoint_every=2, checkpoint_dir=folder),
    )
    taken = list(islice(records, count))
    records.close()  # type: ignore[attr-defined]
    accelerator.free_memory()
    return taken


def fail() -> None:
    raise ConfigError(f"found by rank {rank}")


try:
    decide(fail)
except ConfigError as error:
    say(str(error))

first = updates(base / "shared", 3)
say(f"drew {first[0].metrics['drawn']}")  # type: ignore[union-attr]
say(f"resumed at {updates(base / 'shared', 1)[0].step}")
# Only the main process's disk has the checkpoint.
updates(own / "checkpoints", 3)
if rank == 1:
    is_dir = Path.is_dir
    Path.is_dir = lambda path, **options: "disk0" not in path.parts and is_dir(path, **options)  # type: ignore[method-assign]
try:
    updates(own / "checkpoints", 1)
except ConfigError as error:
    say(str(error))

overrides = ("training.num_training_steps=8", "learning_rates=[0.01]")
for _ in range(2):
    compare_and_report(base / "small.yaml", overrides, out=own, num_seeds=1, shard=(1, 1))
say(f"report {(own / 'report.html').exists()}")
