"""The scoring model: a causal language model that gives the likelihood of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from elf_lightning.errors import UserError
from elf_lightning.metrics.scoring_settings import DType, ScoringModelSettings
from elf_lightning.metrics.scoring_source import load_errors_explained, scoring_model_path
from elf_lightning.metrics.scoring_tokenizer import ScoringTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def token_nll(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Nll of every token but the first, in nats, (B, S-1) float32; logits (B, S, V), ids (B, S).

    One sequence at a time: a second copy of a batch's logits takes gigabytes at a vocabulary of 50,000.
    """
    pairs = zip(logits[:, :-1], input_ids[:, 1:], strict=True)
    return torch.stack([F.cross_entropy(row.float(), ids, reduction="none") for row, ids in pairs])


def counted_targets(input_ids: Tensor, attention_mask: Tensor, eos_id: int | None) -> Tensor:
    """Which of the tokens after the first count: real ones, and the first EOS. (B, S-1) boolean.

    The first EOS counts even where the attention mask calls it padding, since it ends the text; later ones
    never count (as in arXiv 2406.07524 and its successors).
    """
    real, targets = attention_mask[:, 1:].bool(), input_ids[:, 1:]
    if eos_id is None:
        return real
    is_eos = targets == eos_id
    return (real & ~is_eos) | (is_eos & (is_eos.cumsum(1) == 1))


@dataclass(frozen=True)
class TextScores:
    """The likelihoods of N texts under a scoring model.

    Attributes:
        nll: (N,) float64, each text's summed nll in nats; 0 for an empty text.
        tokens: (N,) int64, the number of tokens in the sum.
    """

    nll: Tensor
    tokens: Tensor

    @property
    def perplexity(self) -> Tensor:
        """Each text's perplexity, (N,) float64; NaN where no token counts."""
        return (self.nll / self.tokens).exp()


class ScoringModel:
    """A causal language model that scores texts; one scoring model can serve several metrics.

    Not a module: it is not trained, averaged or saved with its owner, and copies of a metric share it.

    Args:
        tokenizer: of the model.
        model: a Hugging Face causal language model.
        batch_size: texts scored at once.

    Raises:
        UserError: if the tokenizer's context is longer than the model's.
    """

    def __init__(self, tokenizer: ScoringTokenizer, model: PreTrainedModel, batch_size: int = 8) -> None:
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and tokenizer.context_length > limit:
            raise UserError(
                f"the scoring model {tokenizer.name} reads at most {limit} tokens; "
                f"lower context_length={tokenizer.context_length} to that"
            )
        self.tokenizer = tokenizer
        self.model = model.requires_grad_(False).train(False)
        self.batch_size = batch_size

    @classmethod
    def load(
        cls, name: str, dtype: DType = "float32", context_length: int = 1024, batch_size: int = 8
    ) -> Self:
        """Load by Hub name or folder, or `EMBEDDED_SCORING_MODEL`; arguments as for `ScoringModelSettings`.

        Raises:
            UserError: if there is no such causal language model, or an argument is out of range.
        """
        from transformers import AutoModelForCausalLM

        ScoringModelSettings(name, dtype, context_length, batch_size)  # refuses what is out of range
        tokenizer = ScoringTokenizer.load(name, context_length)
        with load_errors_explained(name):
            model = AutoModelForCausalLM.from_pretrained(scoring_model_path(name), dtype=dtype)
        return cls(tokenizer, model, batch_size)

    @property
    def name(self) -> str:
        """Shown in reports: numbers under different scoring models are not comparable."""
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
        for index, input_ids, mask in self._batches(self.tokenizer.sequences(texts)):
            logits = self.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
            counted = counted_targets(input_ids, mask, self.tokenizer.eos_id)
            # `where`, not a product with the mask: 0 times an infinite nll would be NaN.
            counted_nll = token_nll(logits, input_ids).where(counted, 0.0)
            nll[index] = counted_nll.sum(1, dtype=torch.float64).cpu()
            tokens[index] = counted.sum(1).cpu()
        return TextScores(nll, tokens)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Last hidden state at the last token of each text, (N, H) float32 on the CPU; 0 for empty texts."""
        features = torch.zeros(len(texts), self.model.config.get_text_config().hidden_size)
        for index, input_ids, mask in self._batches(self.tokenizer.sequences(texts, add_eos=False)):
            hidden = self.model.base_model(input_ids=input_ids, attention_mask=mask, use_cache=False)[0]
            features[index] = hidden[torch.arange(len(index)), mask.sum(1) - 1].float().cpu()
        return features

    def _batches(self, sequences: list[list[int]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (indices (B,), padded ids (B, S), mask (B, S)), empty sequences left out.

        The longest come first, so that there is little padding and memory runs out at once if at all.
        """
        device = self.model.device
        lengths = [len(ids) for ids in sequences]
        order = sorted(
            filter(lengths.__getitem__, range(len(sequences))), key=lengths.__getitem__, reverse=True
        )
        for start in range(0, len(order), self.batch_size):
            index = torch.tensor(order[start : start + self.batch_size])
            chosen = [torch.tensor(sequences[i], device=device) for i in index]
            padding = self.tokenizer.eos_id or 0
            mask = pad_sequence([torch.ones_like(ids) for ids in chosen], batch_first=True)
            yield index, pad_sequence(chosen, batch_first=True, padding_value=padding), mask
