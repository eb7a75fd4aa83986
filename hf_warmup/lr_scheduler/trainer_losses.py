"""Lets transformers' Trainer tell a scheduler the training loss, which it passes to no scheduler and no callback.

`Trainer.training_step` is wrapped once, when a schedule that needs the loss is built, and does what it did: only its
return value, the loss of a forward pass, is also shown to the scheduler. Other schedules leave transformers alone.
"""

import functools
import sys
from typing import Any


def feed_trainer_losses() -> None:
    """Make the Trainer show each training loss to its scheduler, if that has a method `observe`; safe to repeat."""
    module = sys.modules.get("transformers.trainer")
    if module is None:  # nobody has a Trainer
        return
    trainer = module.Trainer
    if hasattr(trainer.training_step, "_shows_loss"):
        return
    original = trainer.training_step

    @functools.wraps(original)
    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        # Under Accelerate the scheduler is wrapped.
        scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        if hasattr(scheduler, "observe"):
            # The Trainer's losses add up to the mean over an update's passes; the scheduler takes their mean itself.
            scheduler.observe(loss * self.current_gradient_accumulation_steps)
        return loss

    training_step._shows_loss = True  # type: ignore[attr-defined]
    trainer.training_step = training_step
