"""Learning rates that real loops use, on one process or two: run by the tests, writes one JSON per rank.

python traces.py OUT WORLD_SIZE
"""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

import hf_warmup


OUT = Path(sys.argv[1])
UPDATES = 20
BETA2 = 0.8  # a warmup of 10 updates


def examples() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(0, 20, (4,), generator=generator), "labels": torch.tensor(i % 2)}
        for i in range(480)
    ]


def model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))


class Watch(TrainerCallback):
    """Notes the learning rate of each update, just before it is made."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])


def trainer_trace(accumulation: int, *, resume_at: int | None = None) -> list[float]:
    """The Trainer's rates; with `resume_at`, of a second Trainer that goes on from a checkpoint of a first."""
    rates: list[float] = []
    for resumed in (False, True) if resume_at else (False,):
        watch = Watch()
        arguments = TrainingArguments(
            output_dir=str(OUT / "trainer"),
            max_steps=UPDATES,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=accumulation,
            learning_rate=1.0,
            adam_beta2=BETA2,
            lr_scheduler_type="untuned_linear_warmup",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="steps" if resume_at else "no",
            save_steps=resume_at or 500,
            seed=0,
        )
        trainer = Trainer(model=model(), args=arguments, train_dataset=examples(), callbacks=[watch])
        if resume_at and not resumed:
            trainer.add_callback(StopAt(resume_at))
        trainer.train(resume_from_checkpoint=f"{arguments.output_dir}/checkpoint-{resume_at}" if resumed else None)
        rates += watch.rates
    return rates


class StopAt(TrainerCallback):
    """Ends training after some update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = True
            control.should_save = True


def accelerate_trace(accumulation: int, *, prepared: bool, resume_at: int | None = None) -> list[float]:
    """A plain Accelerate loop's rates; lengths are scaled as transformers' scripts scale them."""
    rates: list[float] = []
    state = str(OUT / "accelerate")
    for first, last in ((0, resume_at), (resume_at, UPDATES)) if resume_at else ((0, UPDATES),):
        AcceleratorState._reset_state()
        GradientState._reset_state()
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
        net = model()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, betas=(0.9, BETA2))
        scheduler = hf_warmup.get_schedule(optimizer, 0, UPDATES * (accelerator.num_processes if prepared else 1))
        loader = DataLoader(examples(), batch_size=2)
        if prepared:
            net, optimizer, loader, scheduler = accelerator.prepare(net, optimizer, loader, scheduler)
        else:
            net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
            accelerator.register_for_checkpointing(scheduler)
        if first:
            accelerator.load_state(state)
        rates += accelerate_loop(accelerator, net, optimizer, scheduler, loader, last - first, prepared=prepared)
        if last != UPDATES:
            accelerator.save_state(state)
            accelerator.wait_for_everyone()
    return rates


def accelerate_loop(
    accelerator: Accelerator, net: Any, optimizer: Any, scheduler: Any, loader: Any, updates: int, *, prepared: bool
) -> list[float]:
    """The rates of some updates."""
    rates: list[float] = []
    for batch in loader:
        with accelerator.accumulate(net):
            accelerator.backward(net(**batch).loss)
            if accelerator.sync_gradients:
                rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if prepared or accelerator.sync_gradients:
                scheduler.step()
            optimizer.zero_grad()
        if len(rates) == updates:
            break
    return rates


def own_loop_records() -> list[hf_warmup.StepRecord]:
    """What `hf_warmup.train` records."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = hf_warmup.make_accelerator(gradient_accumulation_steps=3)
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, betas=(0.9, BETA2))
    scheduler = hf_warmup.get_schedule(optimizer, 0, UPDATES)
    loader = hf_warmup.shuffled_loader(examples(), batch_size=2, seed=0)  # type: ignore[arg-type]
    config = hf_warmup.TrainConfig(num_training_steps=UPDATES)

    def objective(net: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return net(**batch).loss, {}

    records = hf_warmup.train(accelerator, net, optimizer, scheduler, loader, objective, config)
    return [record for record in records if isinstance(record, hf_warmup.StepRecord)]


CASES: dict[str, Callable[[], list[float]]] = {
    "Trainer": lambda: trainer_trace(1),
    "Trainer, accumulation 3": lambda: trainer_trace(3),
    "Trainer, resumed": lambda: trainer_trace(1, resume_at=7),
    "Trainer, accumulation 3, resumed": lambda: trainer_trace(3, resume_at=7),
    "Accelerate, prepared": lambda: accelerate_trace(1, prepared=True),
    "Accelerate, prepared, accumulation 3": lambda: accelerate_trace(3, prepared=True),
    "Accelerate, prepared, resumed": lambda: accelerate_trace(1, prepared=True, resume_at=7),
    "Accelerate, prepared, accumulation 3, resumed": lambda: accelerate_trace(3, prepared=True, resume_at=7),
    "Accelerate": lambda: accelerate_trace(1, prepared=False),
    "Accelerate, accumulation 3": lambda: accelerate_trace(3, prepared=False),
    "Accelerate, resumed": lambda: accelerate_trace(1, prepared=False, resume_at=7),
    "Accelerate, accumulation 3, resumed": lambda: accelerate_trace(3, prepared=False, resume_at=7),
}


def main() -> None:
    """Run every case and write what was found."""
    world_size = int(sys.argv[2])
    rates = {name: case() for name, case in CASES.items()}
    records = own_loop_records()
    rates["hf_warmup.train, accumulation 3"] = [record.lr for record in records]
    found = {"rates": rates, "records": [asdict(record) for record in records]}
    # A silent single process would make the whole test vacuous.
    assert PartialState().num_processes == world_size, PartialState().num_processes
    (OUT / f"{PartialState().process_index}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        # The wrapped models first: see unmodified.py.
        gc.collect()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
