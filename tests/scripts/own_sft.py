"""TRL's SFTTrainer with LoRA on a tiny GPT-2, as a factory; OWN_SFT_MODEL says where the model stands."""

import os
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from tiny_models import WORDS
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def make_trainer(arguments: SFTConfig) -> tuple[SFTTrainer, Any]:
    tokenizer = AutoTokenizer.from_pretrained(os.environ["OWN_SFT_MODEL"])
    tokenizer.pad_token = tokenizer.eos_token
    texts = [" ".join(WORDS[(start + i * i) % len(WORDS)] for i in range(8)) for start in range(48)]
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(os.environ["OWN_SFT_MODEL"]),
        args=arguments,
        train_dataset=Dataset.from_dict({"text": texts[:24]}),
        eval_dataset=Dataset.from_dict({"text": texts[24:36]}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"),
    )
    return trainer, Dataset.from_dict({"input_ids": tokenizer(texts[36:])["input_ids"]})
