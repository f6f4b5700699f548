"""What happens around training: averaged weights, checkpoints, what is shown and logged, samples."""

from elf_lightning.callbacks.ema import EMA
from elf_lightning.callbacks.generative_perplexity import GenerativePerplexityCallback
from elf_lightning.callbacks.latest import LatestModelCheckpoint
from elf_lightning.callbacks.progress import TrainingProgress
from elf_lightning.callbacks.run_summary import RunSummary
from elf_lightning.callbacks.sample_logger import SampleLogger
from elf_lightning.callbacks.sample_writer import SampleWriter
from elf_lightning.callbacks.throughput import Throughput
from elf_lightning.callbacks.watch import CollapseWatch

__all__ = [
    "EMA",
    "CollapseWatch",
    "GenerativePerplexityCallback",
    "LatestModelCheckpoint",
    "RunSummary",
    "SampleLogger",
    "SampleWriter",
    "Throughput",
    "TrainingProgress",
]
