"""How rich a sample's vocabulary is: the number without which perplexity misleads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from elf_lightning.metrics.scoring_model import ScoringModel, ScoringTokenizer
from elf_lightning.metrics.text_metric import SampleMean


def unigram_entropy(ids: Sequence[int]) -> float:
    """Entropy in nats of how often each id occurs among `ids`; 0 for no ids."""
    shares = [count / len(ids) for count in Counter(ids).values()]
    return -sum(share * math.log(share) for share in shares)


class UnigramEntropy(SampleMean):
    """Entropy over a sample's scoring model tokens in nats, mean over samples (as arXiv 2605.10938 measures it).

    An empty sample has entropy 0. Real OpenWebText at 1,024 tokens reads about 5.44; a low generative
    perplexity at a lower entropy is repetition, and random words have more of it than real text.

    Args:
        scoring_model: whose tokens to count: a scoring model, its tokenizer, or the name or folder of one.
        context_length: tokens of a text that count, for a scoring model given by name.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if the scoring model's tokenizer cannot be loaded.
    """

    def __init__(
        self,
        scoring_model: ScoringModel | ScoringTokenizer | str = "gpt2-large",
        context_length: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringTokenizer.load(scoring_model, context_length)
        self.tokenizer = scoring_model.tokenizer if isinstance(scoring_model, ScoringModel) else scoring_model

    def measure(self, texts: Sequence[str]) -> list[float]:
        """Each text's entropy in nats."""
        return [unigram_entropy(ids) for ids in self.tokenizer.encode(texts)]
