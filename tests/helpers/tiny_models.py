"""Pretrained models of a few hundred weights, as folders: what tasks of each kind need, built without a network."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)


WORDS = ("good", "bad", "so", "not", "Ada", "Rome")


def save_tokenizer(folder: Path, **special: str) -> None:
    """One token a word; words that it does not know are [UNK]."""
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[END]", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", **special).save_pretrained(folder)


def save_bert(folder: Path) -> str:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=16, **sizes)).save_pretrained(folder)
    save_tokenizer(folder, pad_token="[PAD]")
    return str(folder)


def save_gpt2(folder: Path) -> str:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=16, bos_token_id=2, eos_token_id=2, **sizes)
    GPT2LMHeadModel(config).save_pretrained(folder)
    save_tokenizer(folder, eos_token="[END]")
    return str(folder)


def save_vit(folder: Path) -> str:
    """With a head of five classes, which is not what a task has."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = ViTConfig(image_size=12, patch_size=4, num_labels=5, **sizes)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 12, "width": 12}).save_pretrained(folder)
    return str(folder)
