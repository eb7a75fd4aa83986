"""Run by both of two processes whose folders differ, as those of machines without a shared disk: FOLDER is the base.

They must agree on everything, and none may wait for what the other does not do.
"""

import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import PartialState

from hf_warmup import get_schedule, make_accelerator, shuffled_loader, train
from hf_warmup.cli.compare import compare_and_report
from hf_warmup.errors import ConfigError
from hf_warmup.training import TrainConfig, TrainRecord
from hf_warmup.training.accelerator import decide, join_processes
from hf_warmup.training.evaluation import Evaluator


# What is said of the words of each sentence, and what is true.
SENTENCES = [
    ([1, 2, 0, 0, 1], [1, 2, 0, 0, 1]),
    ([1], [0]),
    ([0, 1, 2], [0, 1, 2]),
    ([1, 1], [1, 2]),
    ([0, 0, 0, 1, 2, 2, 2], [0, 0, 0, 1, 2, 2, 2]),
]

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


class Parrot(torch.nn.Module):
    """Says of each token the label that its number is."""

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids, 3), loss=labels.float().mean())


def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Sentences of a batch, as long as its longest."""
    length = max(len(row["labels"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100}
    return {
        key: torch.tensor([row[key] + [to] * (length - len(row[key])) for row in rows]) for key, to in fill.items()
    }


sentences = [{"input_ids": said, "labels": true} for said, true in SENTENCES]
loader = torch.utils.data.DataLoader(sentences, batch_size=2, collate_fn=padded)  # type: ignore[arg-type]
evaluator = Evaluator(make_accelerator(), loader, "entity_f1", predicts="tokens", label_names=["O", "B-X", "I-X"])
say(f"f1 {evaluator(Parrot(), 0)['entity_f1']}")

overrides = ("training.num_training_steps=8", "learning_rates=[0.01]")
for _ in range(2):
    compare_and_report(base / "small.yaml", overrides, out=own, num_seeds=1, shard=(1, 1))
say(f"report {(own / 'report.html').exists()}")

# Two arms that hardly differ, so that the first look decides nothing.
alike = "{name: adamw, optimizer: adamw}, {name: radam, optimizer: adamw, optimizer_kwargs: {weight_decay: 0.02}}"
looks = ("training.num_training_steps=16", "learning_rates=[0.01]", "plan={looks: [5, 6]}", f"arms=[{alike}]")
looks += ("model.config.hidden_size=32", "model.config.patch_size=8", "training.evaluate_every=50")
compare_and_report(base / "small.yaml", looks, out=own / "planned", num_seeds=None, shard=(1, 1))
