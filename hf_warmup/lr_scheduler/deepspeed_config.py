"""Refuses a DeepSpeed config whose own scheduler would replace one of this package's without a word.

transformers builds no scheduler where such a config has a section for one. It shows the run's arguments to every such
config in one method, `HfTrainerDeepSpeedConfig.trainer_config_process`. That is wrapped when its file is imported, and
does what it did.
"""

import functools
from typing import Any

from hf_warmup.errors import ConfigError


def refuse_replaced_schedules(module: Any) -> None:
    """Wrap the method of `transformers.integrations.deepspeed`; safe to repeat, and nothing where it has none."""
    kind = getattr(module, "HfTrainerDeepSpeedConfig", None)
    original = getattr(kind, "trainer_config_process", None)
    if original is None or hasattr(original, "_refuses_schedulers"):
        return

    @functools.wraps(original)
    def trainer_config_process(self: Any, args: Any, *more: Any, **options: Any) -> Any:
        check_not_replaced(self.config, args)
        return original(self, args, *more, **options)

    trainer_config_process._refuses_schedulers = True  # type: ignore[attr-defined]
    kind.trainer_config_process = trainer_config_process  # type: ignore[union-attr]


def check_not_replaced(config: Any, args: Any) -> None:
    """Refuse a config with a scheduler of its own beside a schedule of ours.

    Args:
        config: DeepSpeed's, as a dictionary.
        args: of transformers' Trainer.

    Raises:
        ConfigError: for both.
    """
    from hf_warmup.lr_scheduler.registration import registered_schedulers

    name = getattr(args, "lr_scheduler_type", None)
    name = getattr(name, "value", name)
    if isinstance(config, dict) and config.get("scheduler") and name in registered_schedulers():
        raise ConfigError(
            f"the `scheduler` section of DeepSpeed's config would replace lr_scheduler_type={name!r} without a word. "
            f"Remove the section, or name a schedule of transformers."
        )
