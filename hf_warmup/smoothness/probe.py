"""Watches the curvature along a training run, every n-th update, and leaves the run as it would have been.

A measurement leaves weights, gradients, running statistics and random numbers bit for bit as they were. It takes two
more gradients of the update's own batch (one more for each further point), so with `every=n` a run costs about 2 / n
more; the Hessian's eigenvalue costs tens of gradients. Gradients are averaged over an update's passes and over
processes. Not for sharded weights (FSDP, DeepSpeed ZeRO).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_warmup.errors import ConfigError
from hf_warmup.lr_scheduler.process_group import mean_over_processes, num_processes
from hf_warmup.smoothness.curvature import (
    largest_gradient_change,
    loss_gradient,
    read,
    top_hessian_eigenvalue,
    write,
)
from hf_warmup.smoothness.records import History, SmoothnessRecord


# Loss of one of the update's batches, as a function of the model that the probe hands in.
ModelLoss = Callable[[nn.Module], Tensor]


class SmoothnessProbe(TrainerCallback):  # type: ignore[misc]
    """Measures the local smoothness of the training loss.

    In `hf_warmup.train` pass it as `probe=`; to transformers' Trainer as a callback; in your own loop write
    `probe.step(optimizer, model, lambda m: loss_of(m, batch))` in place of `optimizer.step()`. Random layers such as
    dropout draw the same numbers for both gradients, though not those of the update itself.

    Args:
        every: updates between measurements; the first is measured.
        f_star: the lowest loss there is; 0 as in the paper.
        points: gradients taken along the step, the last at its end.
        hessian: also take the Hessian's eigenvalue of largest magnitude, before the step.
        path: JSON lines file that each record is added to, by the first process. A run that goes on continues it:
            records of updates that are made again are replaced. A run that begins at its first update moves an
            earlier run's file aside, to `path` + ".1".
        updates_made: updates that a loop of your own has behind it when it resumes. None asks the optimizer's state,
            where Adam and its kin count them; the Trainer and `hf_warmup.train` number updates by themselves.

    Attributes:
        records: all measurements so far.

    Raises:
        ValueError: unless `every` and `points` are at least 1, and `updates_made` at least 0.

    Source: Liu et al., arXiv 2509.07972, whose figures are made of such pairs of smoothness and loss.
    """

    def __init__(
        self,
        *,
        every: int = 10,
        f_star: float = 0.0,
        points: int = 1,
        hessian: bool = False,
        path: Path | str | None = None,
        updates_made: int | None = None,
    ) -> None:
        for name, value, least in (("every", every, 1), ("points", points, 1), ("updates_made", updates_made or 0, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")
        self.every, self.f_star, self.points, self.hessian = every, f_star, points, hessian
        self.path = Path(path) if path is not None else None
        self.records: list[SmoothnessRecord] = []
        self._history = History(self.path) if self.path is not None else None
        self._updates = updates_made
        self._open: _Measurement | None = None
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._hook: Any = None

    def is_due(self, step: int) -> bool:
        """Whether update number `step`, 1-based, is measured."""
        return (step - 1) % self.every == 0

    def step(self, optimizer: Any, model: nn.Module, *losses: ModelLoss) -> SmoothnessRecord | None:
        """Call `optimizer.step()` and measure it if it is due.

        Args:
            optimizer: makes the update.
            model: whose weights it moves, plain or wrapped for data parallelism.
            losses: of the update's batches, one for each pass, as functions of the plain model.
        """
        if self._updates is None:
            self._updates = _updates_of(optimizer)
        self._updates += 1
        due = self.is_due(self._updates)
        if due:
            self.before(model, *losses, step=self._updates)
        optimizer.step()
        return self.after() if due else None

    def before(self, model: nn.Module, *losses: ModelLoss, step: int) -> None:
        """Take note of the weights just before update number `step`."""
        self._open = _Measurement(model, losses, step)

    def after(self) -> SmoothnessRecord | None:
        """Measure, now that the update has been made; None if `before` was not called or nothing moved."""
        measurement, self._open = self._open, None
        found = None if measurement is None else measurement.finish(self.f_star, self.points, self.hessian)
        if found is not None:
            self.records.append(found)
            if self._history is not None and _rank() == 0:
                self._history.append(found)
        return found

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Begin to take note of the batches that the Trainer's model is given."""

        def remember(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if module.training and self._open is None:
                self._calls.append((inputs, named))

        self._hook = _plain(model).register_forward_pre_hook(remember, with_kwargs=True)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Just before an update of the Trainer."""
        step = state.global_step + 1
        if self.is_due(step):
            # The Trainer's losses over one count of items add up, over an update's passes and, averaged over devices
            # as it says, over processes; other losses are averaged.
            summed = len(self._calls) * (num_processes() if args.average_tokens_across_devices else 1)
            losses = [_loss_of_call(*call, summed if "num_items_in_batch" in call[1] else 1) for call in self._calls]
            self.before(model, *losses, step=step)
        self._calls = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Just after an update of the Trainer."""
        self.after()
        self._calls = []

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model alone again."""
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._calls = None, []


class _Measurement:
    """One update's: where it started, and how to see its batch again with the same dropout."""

    def __init__(self, model: nn.Module, losses: tuple[ModelLoss, ...], step: int) -> None:
        if not losses:
            raise ConfigError("the probe needs the loss of the update's batch: one function for each pass.")
        self._model, self._losses, self._step = _plain(model), losses, step
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        self._start = read(self._parameters)
        self._rng = _rng_state()
        self._buffers = [buffer.clone() for buffer in self._model.buffers()]

    def finish(self, f_star: float, points: int, hessian: bool) -> SmoothnessRecord | None:
        end = read(self._parameters)
        moved = float((end - self._start).double().norm())
        if not moved > 0:  # skipped, or not finite
            return None
        with self._left_alone(), self._undisturbed():
            write(self._parameters, self._start)
            mean, before = self._loss_and_gradient()
            top = self._top_eigenvalue() if hessian else None
            change = largest_gradient_change(
                lambda: self._loss_and_gradient()[1],
                self._parameters,
                before=before,
                start=self._start,
                end=end,
                points=points,
            )
        loss = float(mean)
        return SmoothnessRecord(self._step, loss, loss - f_star, change, moved, top)

    def _loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        self._rewind()
        found = [loss_gradient(partial(loss, self._model), self._parameters) for loss in self._losses]
        mean = [torch.stack(part).mean(0) for part in zip(*found, strict=True)]
        return mean_over_processes(mean[0].double()), mean_over_processes(mean[1])

    def _top_eigenvalue(self) -> float:
        if num_processes() > 1:
            raise ConfigError("the Hessian's eigenvalue is measured on one process only; leave out hessian=True.")
        self._rewind()
        return top_hessian_eigenvalue(
            lambda: torch.stack([loss(self._model) for loss in self._losses]).mean(), self._parameters
        )

    def _rewind(self) -> None:
        """Random numbers and running statistics as they were before the update: the same function every time."""
        _set_rng_state(self._rng)
        for buffer, value in zip(self._model.buffers(), self._buffers, strict=True):
            buffer.copy_(value)

    @contextmanager
    def _left_alone(self) -> Iterator[None]:
        """Random numbers go on afterwards where they were, and so do running statistics and weights."""
        rng, buffers, end = _rng_state(), [buffer.clone() for buffer in self._model.buffers()], read(self._parameters)
        try:
            yield
        finally:
            _set_rng_state(rng)
            for buffer, value in zip(self._model.buffers(), buffers, strict=True):
                buffer.copy_(value)
            write(self._parameters, end)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The model in training mode, whose forward hooks of this probe do not count these passes."""
        was_training = self._model.training
        self._model.train()
        try:
            yield
        finally:
            self._model.train(was_training)


def _loss_of_call(inputs: tuple[Any, ...], named: dict[str, Any], scale: int) -> ModelLoss:
    def loss(model: nn.Module) -> Tensor:
        found: Tensor | None = getattr(model(*inputs, **named), "loss", None)
        if found is None:
            raise ConfigError("the model returns no loss: the probe needs models whose output has one.")
        return scale * found

    return loss


def _updates_of(optimizer: Any) -> int:
    """Updates that an optimizer counts in its state; 0 for one that does not count."""
    return int(max((state.get("step", 0) for state in optimizer.state.values()), default=0))


def _plain(model: Any) -> nn.Module:
    parallel = isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel)
    return model.module if parallel else model  # type: ignore[no-any-return]


def _rng_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_rng_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
