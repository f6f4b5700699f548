"""What a scoring model says of the samples: perplexity, entropy (without it, perplexity misleads), MAUVE."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.scoring_model import ScoringModel, ScoringTokenizer
from elf_lightning.metrics.text_metric import MetricNumber, SampleMean, TextMetric, import_optional

_scored = partial(MetricNumber, needs_scoring_model=True, headline=True)
LIKELIHOOD_NUMBERS = (
    MetricNumber(
        "nats_per_token",
        "NLL bound, nats/token",
        "Upper bound on the negative log-likelihood under the model itself, in nats per token. Low is good.",
        higher_is_better=False,
    ),
    MetricNumber("ppl_bound", "PPL bound", "exp of the NLL bound.", 1, higher_is_better=False, log=True),
    MetricNumber("decoder_nats", "of it, decoder", "The decoder's part of the NLL bound."),
    MetricNumber("text_error_nats", "error, texts", "Standard error of the NLL bound from its texts.", 3),
    MetricNumber("probe_error_nats", "error, probes", "Standard error of the NLL bound from its probes.", 3),
)
"""What `evaluation.likelihood` measures."""


class GenerativePerplexity(TextMetric):
    """`exp` of the scoring model's mean nll per token, pooled over all samples (as in arXiv 2605.10938).

    Never read it without `UnigramEntropy` and `Repetition`: a scoring model finds repetition likely. Empty
    samples have no tokens and do not count. Numbers under different scoring models are not comparable.
    The scoring model, or the one with this name or folder, moves to the metric's device and stays there.

    Attributes:
        per_sample: (N,) float64, of the last update's texts on this rank; NaN for an empty text.
    """

    meaning = (
        "How unlikely the scoring model finds it. Low is good, down to real text; repetition is low too."
    )
    numbers = (_scored("gen_ppl", "Gen. PPL", meaning, digits=1, higher_is_better=False, log=True),)

    nll: Tensor
    tokens: Tensor

    def __init__(self, scoring_model: ScoringModel | str = "gpt2-large", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringModel.load(scoring_model)
        self.scoring_model = scoring_model
        self.per_sample = torch.empty(0, dtype=torch.float64)
        self.add_sum("nll", torch.float64)
        self.add_sum("tokens", torch.int64)

    @property
    def signature(self) -> str:
        """Precision and context of the scoring model."""
        scorer = self.scoring_model
        dtype = str(scorer.model.dtype).removeprefix("torch.")
        return f"by {scorer.name}, {dtype}, at most {scorer.tokenizer.context_length:,} tokens a text"

    def update(self, texts: Sequence[str]) -> None:
        """Score N texts and add them."""
        self.count_samples(texts)
        scores = self.scoring_model.to(self.device).score(texts)
        self.per_sample = scores.perplexity
        self.nll += scores.nll.sum().to(self.device)
        self.tokens += scores.tokens.sum().to(self.device)

    def compute(self) -> Tensor:
        """The pooled perplexity, a float64 scalar; if there is none, all ranks raise a `UserError`."""
        self.require_text()
        name = self.scoring_model.name
        if self.tokens == 0:
            raise UserError(f"{name} predicts no token of one-token samples; give it longer texts")
        if not self.nll.isfinite():
            raise UserError(
                f"the scoring model {name} gave logits that are not finite; load it with dtype='float32'"
            )
        return (self.nll / self.tokens).exp()


class UnigramEntropy(SampleMean):
    """Entropy of a sample's tokens in nats, mean over samples, as in arXiv 2605.10938.

    The tokens are those of a scoring model, its tokenizer, or the tokenizer with this name or folder. An
    empty sample has entropy 0; real OpenWebText at 1,024 tokens has about 5.44. A low generative perplexity
    at a lower entropy is repetition; random words have a higher entropy than real text.
    """

    meaning = "How varied a text's tokens are, in nats. Close to real text is good; lower means repetition."
    numbers = (_scored("entropy", "Entropy", meaning),)

    def __init__(
        self, scoring_model: ScoringModel | ScoringTokenizer | str = "gpt2-large", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(scoring_model, str):
            scoring_model = ScoringTokenizer.load(scoring_model)
        self.tokenizer = scoring_model.tokenizer if isinstance(scoring_model, ScoringModel) else scoring_model

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> list[float]:
        """Each text's entropy in nats."""
        counted = [(len(ids), Counter(ids).values()) for ids in self.tokenizer.encode(texts)]
        return [-sum(n / total * math.log(n / total) for n in counts) for total, counts in counted]


def mauve_score(
    texts: Sequence[str], references: Sequence[str], scoring_model: ScoringModel, seed: int = 25
) -> float:
    """MAUVE (arXiv 2102.01454) between samples and real texts, 0 to 1, higher is closer.

    The last hidden states of the scoring model represent the texts, about as many on each side, and not
    paired; `seed` is of their clustering. It is not a sum over ranks: gather the texts and call it on one
    rank. The published numbers use gpt2-large and thousands of texts on each side.
    """
    mauve = import_optional("mauve", "mauve-text")
    sides = [[text for text in side if text.strip()] for side in (texts, references)]
    if not all(sides):
        raise UserError(
            f"MAUVE compares {len(sides[0])} samples with {len(sides[1])} real texts, empty ones left out; "
            "give it texts on both sides"
        )
    samples, real = (scoring_model.features(side).numpy() for side in sides)
    return float(mauve.compute_mauve(p_features=real, q_features=samples, seed=seed, verbose=False).mauve)
