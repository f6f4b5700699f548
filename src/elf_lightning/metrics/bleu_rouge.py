"""Overlap with references: BLEU by sacrebleu, ROUGE by rouge_score; both packages are optional."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from unicodedata import normalize

from elf_lightning.metrics.text_metric import CorpusMetric, MetricNumber, SampleMean, import_optional

UNSPACED = r"[ー\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
"""Letters of scripts that are written without spaces."""
_bleu = partial(MetricNumber, digits=1, higher_is_better=True)
_rouge = partial(_bleu, percent=True)


class Bleu(CorpusMetric):
    """Corpus BLEU of 0 to 100, sacrebleu's `corpus_bleu`; arguments as of its `BLEU` and torchmetrics'."""

    numbers = (_bleu("bleu_default", "BLEU, cased", "The same with sacrebleu's default settings."),)
    paired = True

    def __init__(
        self, lowercase: bool = False, effective_order: bool = False, tokenize: str = "13a", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        metrics = import_optional("sacrebleu.metrics", "sacrebleu")
        self.bleu = metrics.BLEU(lowercase, effective_order=effective_order, tokenize=tokenize, force=True)

    @property
    def signature(self) -> str:
        """sacrebleu's signature."""
        self.bleu.corpus_score([""], [[""]])  # sets the number of references, which the signature needs
        return str(self.bleu.get_signature())

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> float:
        """BLEU in percent."""
        return float(self.bleu.corpus_score(texts, references).score)


class LowercaseBleu(Bleu):
    """BLEU with the settings of ELF (arXiv 2605.10938) and its field; arguments as for `Bleu`."""

    meaning = "N-grams shared with the reference, lower-cased. High is good."
    numbers = (_bleu("bleu", "BLEU", meaning, headline=True),)

    def __init__(self, lowercase: bool = True, effective_order: bool = True, **kwargs: Any) -> None:
        super().__init__(lowercase, effective_order, **kwargs)


class Rouge(SampleMean):
    """ROUGE-1, -2 and -L of 0 to 1: rouge_score's F1 with its stemmer, in any script, mean over samples."""

    numbers = (
        _rouge("rouge1", "ROUGE-1", "Words shared with the reference, F1 in percent.", headline=True),
        _rouge("rouge2", "ROUGE-2", "Word pairs shared with the reference, F1 in percent."),
        _rouge("rougeL", "ROUGE-L", "Longest common subsequence with it, F1 in percent.", headline=True),
    )
    paired = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variants = [number.name for number in self.numbers]
        rouge_scorer = import_optional("rouge_score.rouge_scorer", "rouge_score")
        self.scorer = rouge_scorer.RougeScorer(self.variants, tokenizer=AnyScript())

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> list[list[float]]:
        """The three F1 of each pair."""
        pairs = map(self.scorer.score, references[0], texts)
        return [[scores[variant].fmeasure for variant in self.variants] for scores in pairs]


def bleu_tokenizer(references: Sequence[str]) -> str:
    """sacrebleu's `13a`; where most letters are of a script without spaces, `zh` for Chinese, else `char`."""
    regex = import_optional("regex", "sacrebleu")
    kinds, text = (r"\p{L}", UNSPACED, r"\p{Han}"), "\n".join(references)
    letters, unspaced, chinese = (len(regex.findall(kind, text)) for kind in kinds)
    if 2 * unspaced <= letters:
        return "13a"
    return "zh" if chinese == unspaced else "char"


class AnyScript:
    """Tokenizes for rouge_score, which drops all letters but a to z.

    What it keeps, it still cuts and stems. Words of other scripts stay whole, but in scripts that are written
    without spaces each character is a token. Letters of Latin script beyond a to z are dropped as before.
    """

    def __init__(self) -> None:
        tokenizers = import_optional("rouge_score.tokenizers", "rouge_score")
        self.latin = tokenizers.DefaultTokenizer(use_stemmer=True)
        regex = import_optional("regex", "rouge_score")  # comes with it; `re` knows no scripts
        letter = rf"(?!{UNSPACED})[[\p{{L}}--\p{{Latin}}--\p{{Common}}]||[\p{{Nd}}--[0-9]]]"
        self.word = regex.compile(rf"({UNSPACED}\p{{M}}*|(?:{letter}\p{{M}}*)+)", regex.VERSION1)

    def tokenize(self, text: str) -> list[str]:
        """The tokens in order, in lower case."""
        tokens: list[str] = []
        for place, part in enumerate(self.word.split(text.lower())):
            tokens += [normalize("NFC", part)] if place % 2 else self.latin.tokenize(part)
        return tokens
