"""Schedules bound to an optimizer, on two clocks, and named in transformers."""

from hf_warmup.lr_scheduler.loss_adaptive import LossAdaptiveScheduler, get_loss_adaptive_schedule
from hf_warmup.lr_scheduler.scheduler import WarmupScheduler, get_schedule


__all__ = ["LossAdaptiveScheduler", "WarmupScheduler", "get_loss_adaptive_schedule", "get_schedule"]
