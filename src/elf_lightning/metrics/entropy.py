"""How varied a sample's vocabulary is: without it, perplexity misleads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from elf_lightning.metrics.number import MetricNumber
from elf_lightning.metrics.scoring_model import ScoringModel
from elf_lightning.metrics.scoring_tokenizer import ScoringTokenizer
from elf_lightning.metrics.text_metric import SampleMean


def unigram_entropy(ids: Sequence[int]) -> float:
    """Entropy in nats of the frequencies of `ids`; 0 for no ids."""
    probabilities = [count / len(ids) for count in Counter(ids).values()]
    return -sum(probability * math.log(probability) for probability in probabilities)


class UnigramEntropy(SampleMean):
    """Entropy of a sample's tokens in nats, mean over samples, as in arXiv 2605.10938.

    The tokens are the scoring model's. An empty sample has entropy 0. Real OpenWebText at 1,024
    tokens has about 5.44. A low generative perplexity at a lower entropy is repetition; random words have a
    higher entropy than real text.

    Args:
        scoring_model: a scoring model, its tokenizer, or a name or folder to load the tokenizer from.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if the scoring model's tokenizer cannot be loaded.
    """

    numbers = (
        MetricNumber(
            "entropy",
            "Entropy",
            "How varied a text's tokens are, in nats. Close to real text is good; lower means repetition.",
            needs_scoring_model=True,
            headline=True,
        ),
    )

    def __init__(
        self, scoring_model: ScoringModel | ScoringTokenizer | str = "gpt2-large", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringTokenizer.load(scoring_model)
        self.tokenizer = scoring_model.tokenizer if isinstance(scoring_model, ScoringModel) else scoring_model

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> list[float]:
        """Each text's entropy in nats."""
        return [unigram_entropy(ids) for ids in self.tokenizer.encode(texts)]
