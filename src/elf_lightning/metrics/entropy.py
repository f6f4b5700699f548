"""How rich a sample's vocabulary is: the number without which perplexity misleads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from elf_lightning.metrics.judge import Judge, JudgeTokenizer
from elf_lightning.metrics.text_metric import SampleMean


def unigram_entropy(ids: Sequence[int]) -> float:
    """Entropy in nats of how often each id occurs among `ids`; 0 for no ids."""
    shares = [count / len(ids) for count in Counter(ids).values()]
    return -sum(share * math.log(share) for share in shares)


class UnigramEntropy(SampleMean):
    """Entropy over a sample's judge tokens in nats, mean over samples (as arXiv 2605.10938 measures it).

    An empty sample has entropy 0. Real OpenWebText at 1,024 tokens reads about 5.44; a low generative
    perplexity at a lower entropy is repetition, and random words have more of it than real text.

    Args:
        judge: whose tokens to count: a judge, its tokenizer, or the name or folder of one.
        context_length: tokens of a text that count, for a judge given by name.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: if the judge's tokenizer cannot be loaded.
    """

    def __init__(
        self, judge: Judge | JudgeTokenizer | str = "gpt2-large", context_length: int = 1024, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(judge, str):
            judge = JudgeTokenizer.load(judge, context_length)
        self.tokenizer = judge.tokenizer if isinstance(judge, Judge) else judge

    def measure(self, texts: Sequence[str]) -> list[float]:
        """Each text's entropy in nats."""
        return [unigram_entropy(ids) for ids in self.tokenizer.encode(texts)]
