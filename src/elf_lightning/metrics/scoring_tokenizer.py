"""Text as a scoring model reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from elf_lightning.metrics.scoring_source import (
    EMBEDDED_BOS_ID,
    EMBEDDED_NAME,
    EMBEDDED_SCORING_MODEL,
    load_errors_explained,
    scoring_model_path,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ScoringTokenizer:
    """A scoring model's tokenizer, with the special tokens that the scores include.

    Attributes:
        tokenizer: the scoring model's tokenizer.
        name: shown in reports.
        context_length: maximum number of tokens, BOS and EOS included; longer texts are truncated.
        bos_id: put before every text and not predicted itself; None for no BOS.
        eos_id: put after every text that is shorter than the context, and predicted; None for no EOS.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    context_length: int = 1024
    bos_id: int | None = None
    eos_id: int | None = None

    @classmethod
    def load(cls, name_or_folder: str, context_length: int = 1024) -> Self:
        """Load by Hub name, folder, or `EMBEDDED_SCORING_MODEL`.

        BOS is used where the tokenizer itself adds it (Llama does, GPT-2 does not). The embedded scoring
        model gets its end-of-text token as BOS and no EOS: it is tuned for chat, where EOS ends a turn.

        Raises:
            UserError: if the tokenizer cannot be loaded.
        """
        from transformers import AutoTokenizer

        with load_errors_explained(name_or_folder):
            path = scoring_model_path(name_or_folder)
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
        if name_or_folder == EMBEDDED_SCORING_MODEL:
            return cls(tokenizer, EMBEDDED_NAME, context_length, EMBEDDED_BOS_ID)
        starts_with_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        bos_id = tokenizer.bos_token_id if starts_with_bos else None
        return cls(tokenizer, name_or_folder, context_length, bos_id, tokenizer.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens, truncated to the context, without BOS and EOS; none for white space alone."""
        if not texts:
            return []
        max_length = self.context_length - (self.bos_id is not None)
        stripped = [text if text.strip() else "" for text in texts]
        encoded = self.tokenizer(stripped, add_special_tokens=False, truncation=True, max_length=max_length)
        return [list(ids) for ids in encoded["input_ids"]]

    def sequences(self, texts: Sequence[str], add_eos: bool = True) -> list[list[int]]:
        """Each text's tokens with BOS and, if `add_eos`, EOS, truncated; none for an empty text."""
        bos = [] if self.bos_id is None else [self.bos_id]
        eos = [] if self.eos_id is None or not add_eos else [self.eos_id]
        return [(bos + ids + eos)[: self.context_length] if ids else [] for ids in self.encode(texts)]
