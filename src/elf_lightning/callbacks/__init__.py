"""What happens around training: averaged weights, progress, samples."""

from elf_lightning.callbacks.ema import EMA
from elf_lightning.callbacks.progress import TrainingProgress
from elf_lightning.callbacks.sample_writer import SampleWriter

__all__ = ["EMA", "SampleWriter", "TrainingProgress"]
