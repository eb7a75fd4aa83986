"""Score of a model on one part of a task's data, over all processes."""

from pathlib import Path
from typing import Any

import evaluate
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader


METRICS = Path(__file__).parents[1] / "metrics"


class Evaluator:
    """Scores a model: `evaluator(model, step)` gives `{metric: value, "loss": mean loss}`.

    Args:
        accelerator: the run's; predictions of all processes are gathered.
        loader: unshuffled, not prepared.
        metric: name of a folder in `hf_warmup/metrics`.

    A model whose logits are not numbers predicts class 0: a diverged model has a score, and it is a bad one.
    """

    def __init__(self, accelerator: Accelerator, loader: DataLoader[Any], metric: str) -> None:
        self._accelerator = accelerator
        self._loader = accelerator.prepare_data_loader(loader)
        # Everything is gathered before it is scored, so each process scores on its own.
        self._metric = evaluate.load(str(METRICS / metric), num_process=1, process_id=0, keep_in_memory=True)

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int) -> dict[str, float]:
        predictions, references, losses = [], [], []
        for batch in self._loader:
            output = model(**batch)
            labels = batch["labels"]
            guesses = output.logits.nan_to_num(nan=-1.0e30).argmax(-1)
            losses.append(output.loss.float().expand(len(labels)))
            if labels.dim() == 2:
                # Position i of a language model predicts token i + 1.
                guesses, labels = guesses[:, :-1], labels[:, 1:]
            gathered = self._accelerator.gather_for_metrics((guesses, labels, losses.pop()))
            predictions.append(gathered[0].cpu())
            references.append(gathered[1].cpu())
            losses.append(gathered[2].cpu())
        scores = self._metric.compute(
            predictions=torch.cat(predictions).flatten().tolist(),
            references=torch.cat(references).flatten().tolist(),
        )
        return {**scores, "loss": float(torch.cat(losses).double().mean())}
