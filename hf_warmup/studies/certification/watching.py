"""What is seen of a run of certified training on its way, and which of its weights are judged."""

import torch
from accelerate.utils import broadcast
from torch import nn

from hf_warmup.certified import CertifiedObjective, LayerHealth, bound_health, precise_batch_norm_, warn_of_explosion
from hf_warmup.certified.blocks import Blocks
from hf_warmup.certified.evaluation import EVALUATION_BATCH, Assessment, assess, attacked
from hf_warmup.certified.objectives import LEAST_EPS
from hf_warmup.data.images import ImageData
from hf_warmup.studies.certification.config import CertifiedStudyConfig
from hf_warmup.training.averaging import WeightAverage
from hf_warmup.training.precision import float32_arithmetic


# Images whose bounds tell how the layers fare.
HEALTH_EXAMPLES = 256


class Evaluation:
    """Accuracies at the full radius, on the validation split where there is one; `health` is that of the last call."""

    def __init__(
        self,
        study: CertifiedStudyConfig,
        data: ImageData,
        model: nn.Module,
        objective: CertifiedObjective,
        average: WeightAverage | None,
    ) -> None:
        self._study, self._data, self._model, self._objective = study, data, model, objective
        self._average = average
        self.health: list[LayerHealth] = []
        self._found: Assessment | None = None

    @property
    def judged(self) -> nn.Module:
        """The model whose weights count: the averaged one as soon as there is one."""
        averaged = None if self._average is None else self._average.model
        return self._model if averaged is None else averaged

    @float32_arithmetic()
    def __call__(self, _: nn.Module, step: int) -> dict[str, float]:
        # Not the prepared model: bounds go through the plain one, whose weights are the same.
        model = self.judged.eval()
        device = next(model.parameters()).device
        # Each process has moved its running statistics by its own batches; those of the first are reported and saved.
        for buffer in model.buffers():
            broadcast(buffer)
        if self._study.training.precise_batch_norm or model is not self._model:
            chunks = torch.split(torch.arange(len(self._data.train)), EVALUATION_BATCH)
            batches = (self._data.train.__getitems__(chunk)["pixel_values"].to(device) for chunk in chunks)
            precise_batch_norm_(model, batches)
        eps = max(self._objective.eps_max * self._objective.ramp(step), LEAST_EPS)
        some = self._data.train.__getitems__(range(min(HEALTH_EXAMPLES, len(self._data.train))))["pixel_values"]
        self.health = bound_health(model, some.to(device), eps)
        warn_of_explosion(self.health)
        attack = self._study.pgd if self._study.pgd.every_epoch else None
        # Each process looks at its share of the images, and all have the counts of all.
        shared = Blocks(shared=True)
        self._found = assess(model, self._data.watched, self._study.eps, attack=attack, blocks=shared)
        return self._found.accuracies()

    def result(self, *, seen: bool) -> Assessment:
        """The weights of the end on the test split, under attack.

        Args:
            seen: whether the last look has judged these weights. What it has found of the same split counts.
        """
        model, data, blocks = self.judged.eval(), self._data, Blocks(shared=True)
        if not seen or self._found is None or data.watched is not data.test:
            return assess(model, data.test, self._study.eps, attack=self._study.pgd, blocks=blocks)
        if self._found.broken is not None:
            return self._found
        return attacked(model, data.test, self._study.eps, self._found, self._study.pgd, blocks=blocks)
