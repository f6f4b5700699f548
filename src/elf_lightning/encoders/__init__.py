"""Tokens -> latents: frozen text encoders."""

from elf_lightning.encoders.base import Encoder
from elf_lightning.encoders.hugging_face import (
    one_clear_failure,
    read_tokenizer,
    resolve_folder,
    weights_stamp,
)
from elf_lightning.encoders.mask import additive_mask, encoder_mask
from elf_lightning.encoders.pretrained import PretrainedEncoder
from elf_lightning.encoders.token_table import TokenTableEncoder

__all__ = [
    "Encoder",
    "PretrainedEncoder",
    "TokenTableEncoder",
    "additive_mask",
    "encoder_mask",
    "one_clear_failure",
    "read_tokenizer",
    "resolve_folder",
    "weights_stamp",
]
