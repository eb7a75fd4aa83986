"""A script that has never heard of hf_warmup: flags in, a Trainer run, what it did on standard output."""

import gc
import json
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


@dataclass
class Options:
    """Flags of its own: seconds to wait after each update, so that a test has time to kill it."""

    slow: float = 0.0


class Report(TrainerCallback):
    """Notes learning rates, and dawdles."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])
        time.sleep(self.options.slow)


def main() -> None:
    """Train a tiny model."""
    options, arguments = HfArgumentParser((Options, TrainingArguments)).parse_args_into_dataclasses()
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    examples = [{"input_ids": torch.tensor([i % 20, 1]), "labels": torch.tensor(i % 2)} for i in range(400)]
    report = Report(options)
    trainer = Trainer(model=model, args=arguments, train_dataset=examples, callbacks=[report])
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    if arguments.process_index == 0:
        print(f"world size {arguments.world_size}")
        print(f"scheduler {type(trainer.lr_scheduler).__name__}")
        print(f"rates {json.dumps(report.rates)}")


if __name__ == "__main__":
    main()
    if torch.distributed.is_initialized():
        # With the wrapped model gone first: else gloo's threads, which need the interpreter's lock to let go of
        # tensors, are joined by the model's destructor, which holds it.
        gc.collect()
        torch.distributed.destroy_process_group()
