"""A scheduler of DeepSpeed's own beside one of ours is refused where transformers meets both, without DeepSpeed."""

from types import SimpleNamespace
from typing import Any

import pytest
from transformers.integrations import deepspeed
from transformers.trainer_utils import SchedulerType

from hf_warmup import ConfigError
from hf_warmup.lr_scheduler.deepspeed_config import refuse_replaced_schedules


OWN = {"zero_optimization": {"stage": 1}, "scheduler": {"type": "WarmupLR", "params": {}}}


@pytest.mark.parametrize("name", [SchedulerType("cosine_with_radam_warmup"), "loss_adaptive_warmup"])
def test_transformers_refuses_what_would_be_replaced(name: str) -> None:
    config = SimpleNamespace(config=OWN)
    with pytest.raises(ConfigError, match=r"`scheduler` section .* would replace lr_scheduler_type='\w+_warmup'"):
        deepspeed.HfTrainerDeepSpeedConfig.trainer_config_process(config, SimpleNamespace(lr_scheduler_type=name))


def test_everything_else_goes_through_unchanged() -> None:
    class Config:
        def __init__(self, config: dict[str, Any]) -> None:
            self.config, self.seen = config, list[Any]()

        def trainer_config_process(self, args: Any, auto_find_batch_size: bool = False) -> None:
            self.seen.append((args.lr_scheduler_type, auto_find_batch_size))

    module = SimpleNamespace(HfTrainerDeepSpeedConfig=Config)
    refuse_replaced_schedules(module)
    refuse_replaced_schedules(module)
    for config, name in ((OWN, "cosine"), ({"scheduler": {}}, "radam_warmup"), ({}, "radam_warmup"), (OWN, None)):
        made = Config(config)
        made.trainer_config_process(SimpleNamespace(lr_scheduler_type=name), True)
        assert made.seen == [(name, True)]
    with pytest.raises(ConfigError, match="would replace lr_scheduler_type='radam_warmup'"):
        Config(OWN).trainer_config_process(SimpleNamespace(lr_scheduler_type="radam_warmup"))
    refuse_replaced_schedules(SimpleNamespace())
