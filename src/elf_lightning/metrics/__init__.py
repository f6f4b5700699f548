"""Text -> numbers: torchmetrics whose states are sums, so that any split over ranks gives the same number.

The public names are imported on first use: torchmetrics pulls in transformers, which takes seconds.
"""

from typing import TYPE_CHECKING

from elf_lightning.lazy import on_first_use

if TYPE_CHECKING:
    from elf_lightning.metrics.accuracy import DecodeAccuracy
    from elf_lightning.metrics.bleu import Bleu
    from elf_lightning.metrics.entropy import UnigramEntropy
    from elf_lightning.metrics.judge import Judge, JudgeTokenizer, TextScores
    from elf_lightning.metrics.judge_settings import JudgeSettings
    from elf_lightning.metrics.judge_source import EMBEDDED_JUDGE
    from elf_lightning.metrics.mauve import mauve_score
    from elf_lightning.metrics.ngrams import CrossSampleOverlap, DistinctN, Repetition
    from elf_lightning.metrics.perplexity import GenerativePerplexity
    from elf_lightning.metrics.rouge import Rouge
    from elf_lightning.metrics.suite import MetricSuite

__all__ = [
    "EMBEDDED_JUDGE",
    "Bleu",
    "CrossSampleOverlap",
    "DecodeAccuracy",
    "DistinctN",
    "GenerativePerplexity",
    "Judge",
    "JudgeSettings",
    "JudgeTokenizer",
    "MetricSuite",
    "Repetition",
    "Rouge",
    "TextScores",
    "UnigramEntropy",
    "mauve_score",
]

__getattr__ = on_first_use(
    __name__,
    {
        "accuracy": ["DecodeAccuracy"],
        "bleu": ["Bleu"],
        "entropy": ["UnigramEntropy"],
        "judge": ["Judge", "JudgeTokenizer", "TextScores"],
        "judge_settings": ["JudgeSettings"],
        "judge_source": ["EMBEDDED_JUDGE"],
        "mauve": ["mauve_score"],
        "ngrams": ["CrossSampleOverlap", "DistinctN", "Repetition"],
        "perplexity": ["GenerativePerplexity"],
        "rouge": ["Rouge"],
        "suite": ["MetricSuite"],
    },
)
