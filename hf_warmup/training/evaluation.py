"""Score of a model on one part of a task's data, over all processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import evaluate
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader


METRICS = Path(__file__).parents[1] / "metrics"
# Scores that are made of the loss alone.
_OF_LOSS = ("loss", "perplexity")
# Labels of tokens that do not count.
_IGNORED = -100


def load_metric(name: str) -> Any:
    """The `evaluate` module in a folder of `hf_warmup/metrics`."""
    # Everything is gathered before it is scored, so each process scores on its own.
    return evaluate.load(str(METRICS / name), num_process=1, process_id=0, keep_in_memory=True)


class Evaluator:
    """Scores a model: `evaluator(model, step)` gives `{metric: value, "loss": mean loss}`.

    Args:
        accelerator: the run's; predictions of all processes are gathered.
        loader: unshuffled, not prepared.
        metric: name of a folder in `hf_warmup/metrics`, or "loss" or "perplexity", the exponential of the mean loss.
        predicts: what logits mean, see `data.tasks.Task`.
        label_names: names of the classes; a metric of "tokens" takes names.

    A model whose logits are not numbers predicts class 0, or the value 0: a diverged model has a score, and it is a
    bad one. Only of its loss there is no number.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        loader: DataLoader[Any],
        metric: str,
        *,
        predicts: Literal["classes", "values", "tokens"] = "classes",
        label_names: Sequence[str] = (),
    ) -> None:
        self._accelerator = accelerator
        self._loader = accelerator.prepare_data_loader(loader)
        self._name, self._predicts, self._label_names = metric, predicts, list(label_names)
        self._metric = None if metric in _OF_LOSS else load_metric(metric)

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int) -> dict[str, float]:
        predictions, references, losses = [], [], []
        for batch in self._loader:
            output = model(**batch)
            labels = batch["labels"]
            loss = output.loss.float().expand(len(labels))
            guesses, labels = self._guesses(output.logits, labels)
            gathered = self._accelerator.gather_for_metrics((guesses, labels, loss))
            predictions.append(gathered[0].cpu())
            references.append(gathered[1].cpu())
            losses.append(gathered[2].cpu())
        mean = float(torch.cat(losses).double().mean())
        if self._metric is None:
            return {"perplexity": float(np.exp(mean)), "loss": mean} if self._name == "perplexity" else {"loss": mean}
        scores: dict[str, float] = self._metric.compute(**self._inputs(predictions, references))
        return {**scores, "loss": mean}

    def _guesses(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions beside their labels, of one shape on all processes."""
        if self._metric is None:
            return labels[:, :0], labels[:, :0]
        if self._predicts == "values":
            return logits.float().nan_to_num(0.0, 0.0, 0.0).view(-1), labels.float().view(-1)
        guesses = logits.nan_to_num(nan=-1.0e30).argmax(-1)
        if self._predicts == "tokens":
            # Batches are as long as their longest sentence.
            padded = self._accelerator.pad_across_processes((guesses, labels), dim=1, pad_index=_IGNORED)
            return padded[0], padded[1]
        if labels.dim() == 2:
            # Position i of a language model predicts token i + 1.
            return guesses[:, :-1], labels[:, 1:]
        return guesses, labels

    def _inputs(self, predictions: list[Tensor], references: list[Tensor]) -> dict[str, list[Any]]:
        if self._predicts != "tokens":
            return {
                "predictions": torch.cat([each.flatten() for each in predictions]).tolist(),
                "references": torch.cat([each.flatten() for each in references]).tolist(),
            }
        pairs = [
            (guess[label != _IGNORED].tolist(), label[label != _IGNORED].tolist())
            for guesses, labels in zip(predictions, references, strict=True)
            for guess, label in zip(guesses, labels, strict=True)
        ]
        guesses, labels = ([pair[side] for pair in pairs] for side in (0, 1))
        if self._name == "accuracy":
            return {"predictions": sum(guesses, []), "references": sum(labels, [])}
        return {"predictions": self._named(guesses), "references": self._named(labels)}

    def _named(self, rows: list[list[int]]) -> list[list[str]]:
        return [[self._label_names[label] for label in row] for row in rows]
