"""The scoring_model: a causal language model that says how likely a text is, and the tokens it reads it in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.scoring_source import BOS_ID, EMBEDDED_SCORING_MODEL, SHOWN_NAME, loading, locate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def token_nll(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Nll of every token but the first, in nats, (B, S-1) float32; logits (B, S, V), ids (B, S).

    Row by row, since a second copy of a batch's logits at a vocabulary of 50,000 is gigabytes.
    """
    rows = zip(logits[:, :-1], input_ids[:, 1:], strict=True)
    return torch.stack([F.cross_entropy(row.float(), ids, reduction="none") for row, ids in rows])


def counted_targets(input_ids: Tensor, attention_mask: Tensor, eos_id: int | None) -> Tensor:
    """Which of the tokens after the first count: real ones, and the first EOS. (B, S-1) boolean.

    The first EOS counts also where the mask calls it padding, since it is what ends the text; later ones
    never do (as arXiv 2406.07524 and its successors count).
    """
    real, targets = attention_mask[:, 1:].bool(), input_ids[:, 1:]
    if eos_id is None:
        return real
    is_eos = targets == eos_id
    return (real & ~is_eos) | (is_eos & (is_eos.cumsum(1) == 1))


@dataclass(frozen=True)
class TextScores:
    """What the scoring model found for N texts.

    Attributes:
        nll: (N,) float64, each text's summed nll in nats; 0 for an empty text.
        tokens: (N,) int64, how many tokens the sum is over.
    """

    nll: Tensor
    tokens: Tensor

    @property
    def perplexity(self) -> Tensor:
        """Each text's perplexity, (N,) float64; NaN where no token counts."""
        return (self.nll / self.tokens).exp()


@dataclass(frozen=True)
class ScoringTokenizer:
    """Text as the scoring model reads it.

    Attributes:
        tokenizer: the scoring model's tokenizer.
        name: shown in reports.
        context_length: most tokens a row has, BOS and EOS included; longer texts are cut.
        bos_id: put before every text, itself not predicted; None to put nothing.
        eos_id: put after every text that leaves room for it, and predicted; None to put nothing.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    context_length: int = 1024
    bos_id: int | None = None
    eos_id: int | None = None

    def __post_init__(self) -> None:
        """Refuse a context without room for a prediction.

        Raises:
            UserError: if `context_length` is below 2.
        """
        if self.context_length < 2:
            raise UserError(
                f"context_length={self.context_length} leaves nothing to predict; choose at least 2"
            )

    @classmethod
    def load(cls, name_or_folder: str, context_length: int = 1024) -> Self:
        """The tokenizer of a scoring model by Hub name, folder, or `EMBEDDED_SCORING_MODEL`.

        BOS comes first where the tokenizer itself puts it there (Llama does, GPT-2 does not). The embedded
        scoring model reads its end-of-text token first, and no EOS is counted: it is tuned for chat, so that its
        EOS ends a turn and says nothing about plain text.

        Raises:
            UserError: if the tokenizer cannot be loaded.
        """
        from transformers import AutoTokenizer

        with loading(name_or_folder):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(locate(name_or_folder))
        if name_or_folder == EMBEDDED_SCORING_MODEL:
            return cls(tokenizer, SHOWN_NAME, context_length, BOS_ID)
        starts_with_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        bos_id = tokenizer.bos_token_id if starts_with_bos else None
        return cls(tokenizer, name_or_folder, context_length, bos_id, tokenizer.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's own tokens, cut at what the context has room for, without BOS and EOS.

        Nothing but white space is no text: it has no tokens.
        """
        if not texts:
            return []
        room = self.context_length - (self.bos_id is not None)
        written = [text if text.strip() else "" for text in texts]
        encoded = self.tokenizer(written, add_special_tokens=False, truncation=True, max_length=room)
        return [list(ids) for ids in encoded["input_ids"]]

    def rows(self, texts: Sequence[str], ended: bool = True) -> list[list[int]]:
        """Each text's tokens after BOS and, if `ended`, before EOS, at most `context_length` of them.

        An empty text has an empty row.
        """
        bos = [] if self.bos_id is None else [self.bos_id]
        eos = [] if self.eos_id is None or not ended else [self.eos_id]
        return [(bos + ids + eos)[: self.context_length] if ids else [] for ids in self.encode(texts)]


class ScoringModel:
    """A causal language model that scores texts; one scoring model can serve several metrics.

    Not a module: it is not trained, averaged or saved with what holds it, and a copied metric shares it.

    Args:
        tokenizer: how the model reads text.
        model: a Hugging Face causal language model.
        batch_size: texts scored at once.

    Raises:
        UserError: if the model cannot read as many tokens as the tokenizer gives it, or nothing at once.
    """

    def __init__(self, tokenizer: ScoringTokenizer, model: PreTrainedModel, batch_size: int = 8) -> None:
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and tokenizer.context_length > limit:
            raise UserError(
                f"the scoring model {tokenizer.name} reads at most {limit} tokens; "
                f"lower context_length={tokenizer.context_length} to that"
            )
        if batch_size < 1:
            raise UserError(f"the scoring model's batch_size={batch_size} scores nothing; choose 1 or more")
        self.tokenizer = tokenizer
        self.model = model.requires_grad_(False).train(False)
        self.batch_size = batch_size

    @classmethod
    def load(
        cls, name_or_folder: str, dtype: str = "float32", context_length: int = 1024, batch_size: int = 8
    ) -> Self:
        """The scoring model by Hub name or folder, or the one of the package registry by `EMBEDDED_SCORING_MODEL`.

        Args:
            name_or_folder: such as `gpt2-large`, which the field uses.
            dtype: weights' type: float32, bfloat16 or float16.
            context_length: tokens of a text that are scored.
            batch_size: texts scored at once.

        Raises:
            UserError: if there is no such causal language model, or an argument is out of range.
        """
        from transformers import AutoModelForCausalLM

        if dtype not in DTYPES:
            raise UserError(
                f"the scoring model's dtype={dtype!r} is unknown; choose one of {', '.join(DTYPES)}"
            )
        tokenizer = ScoringTokenizer.load(name_or_folder, context_length)
        with loading(name_or_folder):
            model = AutoModelForCausalLM.from_pretrained(locate(name_or_folder), dtype=DTYPES[dtype])
        return cls(tokenizer, model, batch_size)

    @property
    def name(self) -> str:
        """Shown in reports: numbers under different scoring models do not compare."""
        return self.tokenizer.name

    def to(self, device: torch.device | str) -> Self:
        """The scoring model, moved to `device`."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> TextScores:
        """Nll and number of counted tokens of N texts, on the CPU."""
        nll = torch.zeros(len(texts), dtype=torch.float64)
        tokens = torch.zeros(len(texts), dtype=torch.int64)
        for index, input_ids, mask in self._batches(self.tokenizer.rows(texts)):
            logits = self.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
            counted = counted_targets(input_ids, mask, self.tokenizer.eos_id)
            # Not a product with the mask: 0 times the infinity of an uncounted token is no number.
            counted_nll = token_nll(logits, input_ids).where(counted, 0.0)
            nll[index] = counted_nll.sum(1, dtype=torch.float64).cpu()
            tokens[index] = counted.sum(1).cpu()
        return TextScores(nll, tokens)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Last hidden state at the last token of each text, (N, H) float32 on the CPU; 0 for empty texts."""
        features = torch.zeros(len(texts), self.model.config.get_text_config().hidden_size)
        for index, input_ids, mask in self._batches(self.tokenizer.rows(texts, ended=False)):
            hidden = self.model.base_model(input_ids=input_ids, attention_mask=mask, use_cache=False)[0]
            features[index] = hidden[torch.arange(len(index)), mask.sum(1) - 1].float().cpu()
        return features

    def _batches(self, rows: list[list[int]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(index into rows (B,), padded ids (B, S), mask (B, S)), empty rows left out.

        The longest come first: little padding, and memory that runs out does so at once.
        """
        order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: len(rows[i]), reverse=True)
        for start in range(0, len(order), self.batch_size):
            index = order[start : start + self.batch_size]
            length = len(rows[index[0]])
            padding = [length - len(rows[i]) for i in index]
            fill = [self.tokenizer.eos_id or 0]
            ids = [rows[i] + fill * short for i, short in zip(index, padding, strict=True)]
            mask = [[1] * (length - short) + [0] * short for short in padding]
            device = self.model.device
            yield torch.tensor(index), torch.tensor(ids, device=device), torch.tensor(mask, device=device)
