"""Text -> numbers: torchmetrics whose states are sums, so that any split over ranks gives the same number.

The public names are imported on first use: torchmetrics pulls in transformers, which takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "EMBEDDED_JUDGE": "judge_source",
    "Bleu": "bleu",
    "CrossSampleOverlap": "ngrams",
    "DecodeAccuracy": "accuracy",
    "DistinctN": "ngrams",
    "GenerativePerplexity": "perplexity",
    "Judge": "judge",
    "JudgeSettings": "judge_settings",
    "JudgeTokenizer": "judge",
    "MetricSuite": "suite",
    "Repetition": "ngrams",
    "Rouge": "rouge",
    "TextScores": "judge",
    "UnigramEntropy": "entropy",
    "mauve_score": "mauve",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module the first time the name is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
