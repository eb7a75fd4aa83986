"""Rates of a loss-adaptive warmup in real loops, and what a probe sees, on one or two processes: one JSON per rank.

python loss_traces.py OUT
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

import hf_warmup
from hf_warmup.data.loaders import shuffled_loader


OUT = Path(sys.argv[1])
UPDATES = 20


def examples() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(0, 20, (4,), generator=generator), "labels": torch.tensor(int(i % 7 == 0))}
        for i in range(480)
    ]


def model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes, **dropout))


class Watch(TrainerCallback):
    """Notes learning rate and logged loss of each update."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.losses += [logs["loss"]] if "loss" in logs else []


def trainer_trace(accumulation: int, *, resume_at: int | None = None) -> dict[str, list[float]]:
    """The Trainer's rates and losses; with `resume_at`, those of a second one that goes on behind them."""
    watches = []
    for resumed in (False, True) if resume_at else (False,):
        watches.append(Watch())
        arguments = TrainingArguments(
            output_dir=str(OUT / "trainer"),
            max_steps=UPDATES,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=accumulation,
            learning_rate=0.1,
            lr_scheduler_type="constant_with_loss_adaptive_warmup",
            lr_scheduler_kwargs={"handover_updates": 400, "initial_multiplier": 0.1},
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="steps" if resume_at else "no",
            save_steps=resume_at or 500,
            seed=0,
        )
        trainer = Trainer(model=model(), args=arguments, train_dataset=examples(), callbacks=[watches[-1]])
        trainer.train(resume_from_checkpoint=f"{arguments.output_dir}/checkpoint-{resume_at}" if resumed else None)
    last = watches[-1]
    return {"rates": last.rates, "losses": last.losses}


def accelerate_trace(accumulation: int, *, prepared: bool) -> list[float]:
    """Rates of a plain loop whose losses are the same on average, however many processes there are."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    rank, processes = accelerator.process_index, accelerator.num_processes
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.0)
    options = {"decay": "constant", "handover_updates": 400, "smoothing": 0.5}
    scheduler: Any = hf_warmup.get_loss_adaptive_schedule(optimizer, 0, UPDATES * processes, **options)
    loader = DataLoader(examples(), batch_size=2)
    if prepared:
        net, optimizer, loader, scheduler = accelerator.prepare(net, optimizer, loader, scheduler)
    else:
        net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    rates: list[float] = []
    for batch in loader:
        with accelerator.accumulate(net):
            accelerator.backward(net(**batch).loss)
            update = len(rates)
            # On two processes 0.25 more here and less there; at update 7 nobody has a loss.
            loss = float("nan") if update == 7 else 4.0 * 0.8**update + (0.25 - 0.5 * rank) * (processes > 1)
            if accelerator.sync_gradients:
                rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if prepared or accelerator.sync_gradients:
                scheduler.step(loss=loss)
            optimizer.zero_grad()
        if len(rates) == UPDATES:
            break
    return rates


def own_loop_trace() -> tuple[list[tuple[float, float]], list[dict[str, Any]]]:
    """(multiplier, loss) of `hf_warmup.train`, and what a probe saw in it."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = hf_warmup.make_accelerator()
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scheduler = hf_warmup.get_loss_adaptive_schedule(optimizer, 0, UPDATES, decay="constant", handover_updates=40)
    loader = shuffled_loader(examples(), batch_size=4 // accelerator.num_processes, seed=0, collate=None)  # type: ignore[arg-type]
    config = hf_warmup.TrainConfig(num_training_steps=UPDATES)
    probe = hf_warmup.SmoothnessProbe(every=5, points=2, path=OUT / "smoothness.jsonl")
    records = hf_warmup.train(
        accelerator, net, optimizer, scheduler, loader, lambda m, b, step: (m(**b).loss, {}), config, probe=probe
    )
    losses = [(r.multiplier, r.loss) for r in records if isinstance(r, hf_warmup.StepRecord)]
    return losses, [vars(record) for record in probe.records]


def main() -> None:
    """Run all loops and write what this rank saw."""
    PartialState(cpu=True)
    found: dict[str, Any] = {"world_size": PartialState().num_processes}
    for accumulation in (1, 3):
        found[f"trainer_{accumulation}"] = trainer_trace(accumulation)
        for prepared in (False, True):
            found[f"accelerate_{accumulation}_{prepared}"] = accelerate_trace(accumulation, prepared=prepared)
    found["trainer_resumed"] = trainer_trace(1, resume_at=8)
    found["own"], found["probe"] = own_loop_trace()
    (OUT / f"{PartialState().process_index}.json").write_text(json.dumps(found))
    PartialState().wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
