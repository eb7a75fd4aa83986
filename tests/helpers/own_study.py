"""Somebody's own training: a tiny transformer on made-up data, by factories as a person writes them."""

import sys
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Data(torch.utils.data.Dataset[Any]):
    """Sequences of six numbers, labeled by whether the first is large."""

    def __init__(self, seed: int, size: int) -> None:
        self.inputs = torch.randint(1, 20, (size, 6), generator=torch.Generator().manual_seed(seed))
        self.labels = (self.inputs[:, 0] > 10).long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[index], "labels": self.labels[index]}


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def make_model() -> BertForSequenceClassification:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))


def build(arguments: TrainingArguments, **options: Any) -> Trainer:
    return Trainer(
        make_model(),
        arguments,
        train_dataset=Data(0, 64),
        eval_dataset=Data(1, 40),
        compute_metrics=accuracy,
        **options,
    )


def make_trainer(arguments: TrainingArguments) -> tuple[Trainer, Data]:
    return build(arguments), Data(2, 60)


class _RandomData(Data):
    """One number of a sequence is drawn again whenever it is loaded."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        example = super().__getitem__(index)
        return example | {"input_ids": torch.cat([example["input_ids"][:5], torch.randint(1, 20, (1,))])}


def drawing(arguments: TrainingArguments) -> tuple[Trainer, Data]:
    trainer = build(arguments)
    trainer.train_dataset = _RandomData(0, 64)
    return trainer, Data(2, 60)


def without_test(arguments: TrainingArguments) -> Trainer:
    return build(arguments)


def nothing(arguments: TrainingArguments) -> None:
    return None


def fails(arguments: TrainingArguments) -> None:
    raise RuntimeError("out of luck")


def own_optimizer(arguments: TrainingArguments) -> Trainer:
    model = make_model()
    return Trainer(model, arguments, optimizers=(torch.optim.SGD(model.parameters(), lr=0.1), None))


def own_schedule(arguments: TrainingArguments) -> Trainer:
    trainer = build(arguments)
    made = torch.optim.lr_scheduler.ConstantLR
    trainer.create_scheduler = lambda *_, **__: setattr(trainer, "lr_scheduler", made(trainer.optimizer))
    return trainer


def exits(arguments: TrainingArguments) -> Trainer:
    sys.exit(3)


def changes_arguments(arguments: TrainingArguments) -> Trainer:
    arguments.learning_rate = 1.0
    return build(arguments)


def empty_test(arguments: TrainingArguments) -> tuple[Trainer, Data]:
    return build(arguments), Data(2, 0)


def own_rate(arguments: TrainingArguments) -> Trainer:
    arguments = TrainingArguments(output_dir=arguments.output_dir, report_to="none")
    return build(arguments)


def without_validation(arguments: TrainingArguments) -> Trainer:
    return Trainer(make_model(), arguments, train_dataset=Data(0, 64))


class _Broken(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3 and args.lr_scheduler_type != "linear_warmup":
            raise RuntimeError("device lost")


def breaks_in_one_arm(arguments: TrainingArguments) -> tuple[Trainer, Data]:
    return build(arguments, callbacks=[_Broken()]), Data(2, 60)


class _Lost(Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.model.training and self.state.global_step >= 4 else loss


def diverges(arguments: TrainingArguments) -> tuple[Trainer, Data]:
    return _Lost(make_model(), arguments, train_dataset=Data(0, 64), eval_dataset=Data(1, 40)), Data(2, 60)
